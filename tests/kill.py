"""Kill a training at random moments, again and again; in the end its weights are those of an uninterrupted one.

python tests/kill.py --kills 100
python tests/kill.py --kills 20 --ranks 2 --verbose

Run by hand. A round is one training in a fresh folder: killed, started again by the same command, killed again, until a
start comes through. Exit status 1 where the weights differ in one bit, or a process or a half-written file is left.
"""

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from conftest import SMALL, TINY, start

from vgg.data import digits
from vgg.nets.state_dicts import sha256_of_tensors
from vgg.runs.run import Run

COMMAND = ("model=A", "train_scale=S256", "data.epochs=4", "logger=csv", "trainer.checkpoint_minutes=0", *TINY)
MOMENTS = {"start-up": 25, "training": 40, "checkpoint": 20, "end": 15}  # how often each, in percent
BLOWS = {"SIGKILL to all": 40, "SIGKILL to one": 25, "SIGTERM": 15, "Ctrl-C": 20}
KEPT = {"config.yaml", "record.json", "weights.pt", "colours.pt", "csv", ".lock"}


def alive(session: int) -> list[int]:
    """The processes of a session that this script started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, its_session = path.read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == session and state != "Z":
                found.append(int(path.parent.name))
    return found


def fail(reason: str, output: str) -> None:
    sys.exit(f"{output}\nFAILED: {reason}")


def drawn(rng: random.Random, choices: dict[str, int]) -> str:
    return rng.choices(list(choices), list(choices.values()))[0]


class Training:
    """One start of the command in a round's folder."""

    def __init__(self, folder: Path, command: tuple[str, ...]):
        self.run = Run.named(f"scenes/A-256{SMALL}-epochs4", folder / "runs")
        self.colours_before = self.colours_written()
        self.started = time.monotonic()
        self.process = start(folder, "train.py", *command)

    def colours_written(self) -> int:
        path = self.run.folder / "colours.pt"
        return path.stat().st_mtime_ns if path.exists() else 0

    def begun(self) -> bool:
        """Whether this start has come to the training: every one writes the colours shortly before."""
        return self.colours_written() != self.colours_before

    def writes(self, name: str) -> bool:
        return any(self.run.folder.glob(f".{name}.*"))

    def wait(self, reached: Callable[[], bool]) -> None:
        while self.process.poll() is None and not reached():
            time.sleep(0.001)

    def wait_seconds(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() > end)

    def wait_for_moment(self, moment: str, rng: random.Random, start_up: float, training: float) -> None:
        """Return at a random point of the moment, or when the command has ended before it came."""
        if moment == "start-up":
            return self.wait_seconds(rng.uniform(0, start_up))
        self.wait(self.begun)
        if moment == "training":
            return self.wait_seconds(rng.uniform(0, 1.1 * training))
        if moment == "checkpoint":
            self.wait_seconds(rng.uniform(0, 0.7 * training))
        self.wait(lambda: self.writes("last.ckpt" if moment == "checkpoint" else "weights.pt"))
        self.wait_seconds(rng.choice((0, rng.uniform(0, 0.02))))

    def strike(self, blow: str, rng: random.Random) -> bool:
        """Whether there was something to strike."""
        if self.process.poll() is not None:
            return False
        if blow == "SIGKILL to all":
            os.killpg(self.process.pid, signal.SIGKILL)
        elif blow == "SIGKILL to one":
            others = [pid for pid in alive(self.process.pid) if pid != self.process.pid]
            with contextlib.suppress(ProcessLookupError):
                os.kill(rng.choice(others or [self.process.pid]), signal.SIGKILL)
        elif blow == "SIGTERM":
            self.process.send_signal(signal.SIGTERM)
        else:
            os.killpg(self.process.pid, signal.SIGINT)
        return True

    def output(self) -> str:
        """Once every process has ended."""
        try:
            found, _ = self.process.communicate(timeout=120)
            deadline = time.monotonic() + 10
            while (left := alive(self.process.pid)) and time.monotonic() < deadline:
                time.sleep(0.01)
        except subprocess.TimeoutExpired as error:
            left, found = alive(self.process.pid), str(error.output)
        if left:
            os.killpg(self.process.pid, signal.SIGKILL)
            fail(f"{len(left)} processes left", found)
        return found

    def state(self) -> str:
        """What the blow has left in the run's folder."""
        if self.run.finished:
            return "the weights were there"
        half = [path.name.split(".")[1] for path in self.run.folder.glob(".*.*")]
        found = ", ".join(sorted(f"half-written {name}" for name in half)) or "nothing half-written"
        last = self.run.folder / "last.ckpt"
        if not last.exists():
            return f"{found}, no last.ckpt"
        return f"{found}, checkpoint after step {torch.load(last, weights_only=True)['global_step']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--verbose", action="store_true", help="a line for each kill")
    arguments = parser.parse_args()
    rng, kills, rounds, seen = random.Random(arguments.seed), 0, 0, Counter()
    with tempfile.TemporaryDirectory(prefix="kill-") as name:
        root = Path(name)
        digits.SCENES = {"train": 84, "val": 37}
        digits.write(root / "scenes")
        command = (*COMMAND, f"data.root={root / 'scenes'}")
        if arguments.ranks > 1:
            command += ("trainer.strategy=ddp", f"trainer.devices={arguments.ranks}")

        (root / "reference").mkdir()
        training = Training(root / "reference", command)
        training.wait(training.begun)
        start_up = time.monotonic() - training.started
        training.wait(lambda: training.run.finished)
        seconds = time.monotonic() - training.started - start_up
        output = training.output()
        if not training.run.finished:
            fail("the uninterrupted training did not finish", output)
        reference = training.run.record()["weights_sha256"]
        print(f"uninterrupted: {reference}", flush=True)

        while kills < arguments.kills:
            rounds += 1
            folder, half_written = root / f"round{rounds}", set()
            folder.mkdir()
            while True:
                moment = drawn(rng, MOMENTS)
                blow = drawn(rng, BLOWS)
                training = Training(folder, command)
                if kills < arguments.kills:
                    training.wait_for_moment(moment, rng, start_up, seconds)
                struck = kills < arguments.kills and training.strike(blow, rng)
                output = training.output()
                seen["refused checkpoints"] += output.count("refused:")
                if not struck:
                    break
                kills += 1
                seen[moment] += 1
                seen[blow] += 1
                half_written |= {path.name for path in training.run.folder.glob(".*.*")}
                if "Traceback" in output:
                    seen[f"tracebacks after {blow}"] += 1
                if arguments.verbose:
                    status = training.process.returncode
                    print(f"{kills:4}  {moment:<10}  {blow:<14}  status {status:4}  {training.state()}", flush=True)
            seen["half-written files"] += len(half_written)
            if training.process.returncode != 0 or not training.run.finished:
                fail(f"round {rounds} ended with status {training.process.returncode}", output)
            written = sha256_of_tensors(torch.load(training.run.weights, weights_only=True)["state_dict"])
            if not reference == written == training.run.record()["weights_sha256"]:
                fail(f"round {rounds}: the weights are {written}, not {reference}", output)
            if odd := {path.name for path in training.run.folder.iterdir()} ^ KEPT:
                fail(f"round {rounds}: these are missing or should not be there: {', '.join(sorted(odd))}", output)
    print(
        f"{kills} kills in {rounds} rounds survived: the weights of every round are the uninterrupted ones, bit for bit"
    )
    print(", ".join(f"{what} {count}" for what, count in seen.items()))


if __name__ == "__main__":
    main()
