"""Lightning's trainer of a configuration."""

import sys

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from vgg.core.config import Trainer
from vgg.core.errors import UserError, require


def lightning_trainer(cfg: Trainer, **more: object) -> pl.Trainer:
    """The Lightning trainer for these devices; training and evaluation share it."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # 32-true is float32, no less
    several = cfg.strategy == "ddp" or cfg.devices != 1 or cfg.num_nodes > 1
    try:
        trainer = pl.Trainer(
            accelerator=cfg.accelerator,
            devices=cfg.devices,
            num_nodes=cfg.num_nodes,
            # Broadcast at every forward pass, buffers would set ranks with unequal numbers of validation batches
            # waiting for one another. The mean never changes, and statistics of batches are averaged at validations.
            strategy=DDPStrategy(broadcast_buffers=False) if several else "auto",
            precision=cfg.precision,
            use_distributed_sampler=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=sys.stderr.isatty(),
            **more,
        )
    except MisconfigurationException as error:
        raise UserError(f"trainer.accelerator={cfg.accelerator}: {error}") from error
    require(
        trainer.precision == cfg.precision,
        f"trainer.precision={cfg.precision}: this device has no such thing, on a CPU take {trainer.precision}",
    )
    return trainer


def device_name(device: torch.device) -> str:
    """`NVIDIA H100 80GB HBM3`; `cpu (AVX2)`, with the instructions that PyTorch uses; another one's kind."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({torch.backends.cpu.get_cpu_capability()})" if device.type == "cpu" else device.type
