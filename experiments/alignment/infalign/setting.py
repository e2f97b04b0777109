"""A language model, a learned reward, an independent judge, and what a policy wins by them.

On the dialog task the generator writes the first words of a reply, and the learned reward model,
its output multiplied by a factor that differs by prompt over two decades, trains the policies and
chooses within best-of-N and worst-of-N. The judge is the task's known reward, which no method sees.
On preferences given as a file both reward and judge are learned, from different pairs.

In a `hacked` world the learned reward also likes a few words that the judge does not, and all
prompts have one scale: what is lost there is lost to the words alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from algorithms.alignment import base
from algorithms.alignment.base import Responses
from algorithms.alignment.calibration import Calibration, fingerprint
from algorithms.alignment.estimators import Rule, inference_win
from algorithms.alignment.infalign import Plan
from algorithms.selection.speculative_rejection import SpeculativeRejection
from experiments.alignment.infalign.optimizer import adam
from experiments.alignment.infalign.training_reward import TrainingReward
from experiments.harness.files import read_json
from experiments.inputs import preference_rewards, prompts, sources
from experiments.inputs.preference_rewards import Lesson, Taught
from experiments.tasks.dialog import Dialog
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.logits import Identity
from jaxdecode.prompt import bucket
from jaxdecode.sampling import Categorical
from jaxdecode.scoring import RewardScorer
from jaxdecode.train.policy_gradient import Reinforce
from jaxdecode.train.sequences import response_logprobs
from models import export
from models.checkpoint_files import CONFIG

DIALOG = Dialog(typical=360, longest=500, scale_span=1.0)
BATCH = 16  # prompts drawn together
RLOO = Reinforce()  # one object, as the optimiser is: by them runs share a compiled program


@dataclass(frozen=True)
class World:
    """Models, prompts, and the base's own responses; `config` is the experiment's."""

    config: Any
    hacked: bool = False

    @cached_property
    def source(self) -> sources.Source:
        source = sources.open_model(self.config.generator)
        return replace(source, model=sources.bound(source.model))

    @cached_property
    def generator(self) -> Generator:
        codec = self.source.codec
        return Generator(
            self.source.model, Identity(), Categorical(), codec.stop(), self.config.max_tokens
        )

    @cached_property
    def taught(self) -> Taught | None:
        """Reward, judge and prompts of a preference file, where one is given."""
        c = self.config
        if c.preferences is None:
            return None
        lesson = Lesson(c.reward_steps, c.longest, c.leave_out_long, c.seed)
        room = self.source.positions - c.max_tokens
        return preference_rewards.teach(c.preferences, self.source, lesson, c.judged, room, c.out)

    @cached_property
    def texts(self) -> dict[str, list[str]]:
        """Prompts to train on and to be judged on."""
        c = self.config
        rng, counts = np.random.default_rng(c.seed), {"train": c.prompts, "test": c.judged}
        if self.taught is not None:
            asked = dict(self.taught.prompts)
        elif c.input is None:
            asked = {"train": DIALOG.prompts("train"), "test": DIALOG.prompts("test")}
        else:
            given = [str(request.prompt) for request in prompts.read(c.input)]
            half = len(given) // 2
            asked = {"train": given[:half], "test": given[half:]}
        for split, count in counts.items():
            if count > len(asked[split]):
                raise ValueError(
                    f"{count} {split} prompts: there are only {len(asked[split])}; give more, or "
                    f"lower {'prompts' if split == 'train' else 'judged'}"
                )
        return {
            split: [asked[split][i] for i in rng.choice(len(asked[split]), count, replace=False)]
            for split, count in counts.items()
        }

    @cached_property
    def tokens(self) -> dict[str, list[list[int]]]:
        """The prompts, encoded."""
        return {
            split: [self.source.codec.prompt(text) for text in texts]
            for split, texts in self.texts.items()
        }

    @cached_property
    def learned(self) -> RewardScorer:
        """The reward model."""
        if self.taught is not None:
            return RewardScorer(self.taught.reward)
        return sources.open_reward(self.config.reward, self.source)

    @cached_property
    def scorers(self) -> dict[str, TrainingReward]:
        """The reward, for the prompts of either split."""
        c, vocab, found = self.config, self.source.model.vocab_size, {}
        spurious = np.zeros(vocab, bool)
        if self.hacked:
            spurious[self.source.codec.piece(c.spurious)] = True
        for split, texts in self.texts.items():
            factor = np.ones(len(texts))
            if c.input is None and c.preferences is None and not self.hacked:
                factor = DIALOG.reward.scale(DIALOG.grammar.encode_prompts(texts))
            found[split] = TrainingReward(
                self.learned,
                jnp.asarray(factor, jnp.float32),
                jnp.float32(self.bonus),
                jnp.asarray(spurious),
            )
        return found

    @cached_property
    def bonus(self) -> float:
        """Of a spurious word, in the reward's units: so many of its own standard deviations."""
        if not self.hacked:
            return 0.0
        c = self.config
        drawn = base.draw(self.generator, self.learned, self.tokens["train"], 16, c.seed + 4, BATCH)
        return float(c.bonus_trained * np.mean(np.std(drawn.reward, axis=1)))

    def drawn(self, split: str, model: Any, samples: int, seed: int) -> Responses:
        generator = replace(self.generator, model=model)
        return base.draw(generator, self.scorers[split], self.tokens[split], samples, seed, BATCH)

    @cached_property
    def train_base(self) -> Responses:
        return self.drawn("train", self.source.model, self.config.samples, self.config.seed + 1)

    @cached_property
    def test_base(self) -> Responses:
        return self.drawn("test", self.source.model, self.config.drawn, self.config.seed + 2)

    @cached_property
    def calibration(self) -> Calibration:
        made = fingerprint(
            self.generator, self.scorers["train"], self.tokens["train"], self.config.seed + 1
        )
        return Calibration.of(self.train_base.reward, made)

    def judged(self, found: Responses) -> np.ndarray:
        """What the judge says of responses to the test prompts, f64[P, M]."""
        c, tokens = self.config, self.tokens["test"]
        if self.taught is None and c.judge is None:
            if c.input is not None:
                raise ValueError("judge: the known reward is the dialog task's; name a model")
            return self.known(found)
        scorer = RewardScorer(self.taught.judge) if self.taught else None
        scorer = scorer or sources.open_reward(str(c.judge), self.source)
        return base.judged(scorer, tokens, found, BATCH)

    def known(self, found: Responses) -> np.ndarray:
        """The dialog task's own reward."""
        codec, rewards = self.source.codec, []
        for text, rows, lengths in zip(self.texts["test"], found.tokens, found.length, strict=True):
            replies = [codec.decode(row[:n].tolist()) for row, n in zip(rows, lengths, strict=True)]
            rewards.append(DIALOG.rewards([text] * len(replies), replies))
        return np.array(rewards)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        return adam(self.config.rate, self.config.steps)

    def plan(self, learner: Any) -> Plan:
        c = self.config
        return Plan(
            samples=c.samples,
            prompts=c.batch,
            group=c.group,
            steps=c.steps,
            optimizer=self.optimizer,
            learner=learner,
            draws=c.draws,
            batch=BATCH,
            seed=c.seed,
        )

    def folder(self, key: str) -> Path | None:
        where = "hacked" if self.hacked else "runs"
        return None if self.config.out is None else Path(self.config.out) / where / key

    def rejection(self, split: str, model: Any) -> SpeculativeRejection:
        """Twice N responses, half of which are rejected after a third of their tokens."""
        c, tokens = self.config, self.tokens[split]
        room = bucket(max(map(len, tokens))) + max(1, c.max_tokens // 3)
        generator = replace(self.generator, model=model)
        width = 2 * c.n
        return SpeculativeRejection(generator, self.scorers[split], width * room, width)

    # What a policy is worth.

    def measure(self, policy: Any, rejection: bool = False) -> dict[str, Any]:
        """By prompt: KL, and win rates by the reward and by the judge, three procedures each;
        with `rejection` a fourth, speculative rejection."""
        n, other = self.config.n, self.test_base
        found = self.drawn("test", policy, self.config.drawn, self.config.seed + 3)
        rules: list[tuple[str, int, Rule]] = [
            ("standard", 1, "best"),
            ("best", n, "best"),
            ("worst", n, "worst"),
        ]
        judges = self.judged(found), self.judged(other)
        row: dict[str, Any] = {
            "kl": np.mean(found.logprob - self.reference(found), axis=1),
            "length": float(found.length.mean()),
        }
        for name, samples, rule in rules:
            row[name] = inference_win(found.reward, other.reward, samples, rule)
            row[f"{name}, judge"] = inference_win(
                found.reward, other.reward, samples, rule, *judges
            )
        if rejection:
            mine, base_own = self.returned(policy, 5), self.rejected_base
            row["rejection"] = inference_win(mine.reward, base_own.reward, 1)
            judges = self.judged(mine), self.judged(base_own)
            row["rejection, judge"] = inference_win(*judges, 1)
        return row

    @cached_property
    def rejected_base(self) -> Responses:
        return self.returned(self.source.model, 6)

    def returned(self, model: Any, seed: int) -> Responses:
        """What speculative rejection over a policy returns, `draws` times for each test prompt."""
        decoder, tokens = self.rejection("test", model), self.tokens["test"]
        draws: list[list[np.ndarray]] = []
        for draw in range(self.config.draws):
            key = jax.random.fold_in(jax.random.key(self.config.seed + seed), draw)
            parts = []
            for block, count in base.blocks(tokens, 2 * BATCH):
                result = jax.device_get(decode(decoder, key, block))
                got = (result.tokens, result.length, result.logprob, result.trace.score)
                parts.append([array[:count] for array in got])
            draws.append([np.concatenate(arrays) for arrays in zip(*parts, strict=True)])
        return Responses(*(np.stack(arrays, axis=1) for arrays in zip(*draws, strict=True)))

    def reference(self, found: Responses) -> np.ndarray:
        """log pi_ref of responses to the test prompts: f64[P, M]."""
        tokens, parts, first = self.tokens["test"], [], 0
        for block, count in base.blocks(tokens, BATCH):
            rows = np.minimum(first + np.arange(block.batch), len(tokens) - 1)
            some = jnp.asarray(found.tokens[rows]), jnp.asarray(found.length[rows])
            parts.append(np.asarray(response_logprobs(self.source.model, block, *some))[:count])
            first += count
        return np.concatenate(parts)

    def publish(self, policy: Any, folder: Path) -> str:
        """Write a policy as a published checkpoint beside its base's tokenizer and token ids;
        the hash of its weights."""
        home = sources.folder_of(self.source.name)
        stated = read_json(home / CONFIG)
        ids = {name: value for name, value in stated.items() if name.endswith("_token_id")}
        family = stated["model_type"]
        export.save(policy, folder, family=family, tokenizer=home, config=ids, overwrite=True)
        digest = hashlib.sha256()
        for path in sorted(folder.glob("*.safetensors")):
            digest.update(path.read_bytes())
        return digest.hexdigest()
