"""TRL's trainer of leave-one-out policy gradients, on the weights of one of our models.

Nothing of it is imported until it is asked for; the `parity` extra installs it.
"""

from __future__ import annotations

import importlib
import importlib.util
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NEEDS = ("torch", "transformers", "trl")


def missing() -> str | None:
    """What keeps the peer from running, or None."""
    absent = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if absent:
        return f"{', '.join(absent)} not installed; pip install '.[parity]' brings the peer"
    return None


@dataclass(frozen=True)
class Peer:
    """A published checkpoint that `trl.RLOOTrainer` trains from, anew for every round.

    Attributes:
      folder: of the checkpoint, tokenizer included.
      texts: prompts, all of one length in tokens.
      prompts, group: of a step, and responses to each.
      new: tokens of every response.
      liked: token ids below it are what the reward counts.
      beta, rate: of the KL penalty; of Adam.
    """

    folder: Path
    texts: Sequence[str]
    prompts: int
    group: int
    new: int
    liked: int
    beta: float
    rate: float

    def steps(self, count: int, threads: int) -> tuple[list[float], list[float]]:
        """Seconds of each of `count` steps on so many threads, and of its rollout alone."""
        torch = importlib.import_module("torch")
        torch.set_num_threads(threads)
        trl = importlib.import_module("trl")
        transformers = importlib.import_module("transformers")
        datasets = importlib.import_module("datasets")
        transformers.utils.logging.set_verbosity_error()
        model = transformers.AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32)
        taken: list[float] = []
        rollouts: list[float] = []

        class Clock(transformers.TrainerCallback):
            """Times every step, from the first batch's prompts to the last update."""

            began = 0.0

            def on_step_begin(self, *_: Any, **__: Any) -> None:
                self.began = time.perf_counter()

            def on_step_end(self, *_: Any, **__: Any) -> None:
                taken.append(time.perf_counter() - self.began)

        def share(completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
            return [sum(i < self.liked for i in ids) / len(ids) for ids in completion_ids]

        with tempfile.TemporaryDirectory() as scratch:
            trainer = trl.RLOOTrainer(
                model=model,
                reward_funcs=share,
                args=self.settings(trl, scratch, count),
                train_dataset=datasets.Dataset.from_dict({"prompt": list(self.texts)}),
                processing_class=transformers.AutoTokenizer.from_pretrained(self.folder),
                callbacks=[Clock()],
            )
            generate = trainer._generate

            def timed(prompts: list) -> Any:
                start = time.perf_counter()
                found = generate(prompts)
                rollouts.append(time.perf_counter() - start)
                return found

            trainer._generate = timed
            trainer.train()
        return taken, rollouts

    def settings(self, trl: Any, scratch: str, count: int) -> Any:
        """Everything that costs time is as in our own step, or switched off."""
        return trl.RLOOConfig(
            output_dir=scratch,
            max_steps=count,
            per_device_train_batch_size=self.prompts * self.group,
            gradient_accumulation_steps=1,
            steps_per_generation=1,
            num_iterations=1,
            num_generations=self.group,
            max_completion_length=self.new,
            generation_kwargs={"min_new_tokens": self.new},
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            beta=self.beta,
            learning_rate=self.rate,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            optim="adamw_torch",
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            dataloader_pin_memory=False,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
