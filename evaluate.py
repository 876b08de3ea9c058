"""Evaluate finished runs by the paper's protocols. A run is named by the same options that train it, or by its name.

python evaluate.py eval=fused                            D-jitter, multi-crop & dense over three scales (Table 5)
python evaluate.py eval=table3 model=A train_scale=S256  dense, one scale
python evaluate.py 'runs=[D-jitter,E-jitter]' eval=fused two nets
python evaluate.py ablation=table5                       every row of a table
python evaluate.py eval_method=dense 'test_scale.q=[256,320,384]'
python evaluate.py eval=caltech101 'runs=[imagenette/D-jitter]' data=folder data.root=/path/to/101_ObjectCategories

Posteriors and descriptors are kept and reused; every evaluation appends a line to runs/<data>/results.jsonl, one of
appendix B's to transfer.jsonl there. Options: conf/.
"""

import hydra
from omegaconf import DictConfig

from vgg.commands import evaluate as commands_evaluate
from vgg.core.compose import typed
from vgg.core.config import EvaluateConfig
from vgg.launch import sweep


@hydra.main(version_base="1.3", config_path="conf", config_name="evaluate")
def main(cfg: DictConfig) -> None:
    sweep.job(lambda: commands_evaluate.evaluate_all(typed(cfg, EvaluateConfig)))


if __name__ == "__main__":
    sweep.start(main)
