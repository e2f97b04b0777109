"""Dialog: the vectorised reward against a word-by-word one, and the shape of its distribution."""

import numpy as np
import pytest

from experiments.tasks.dialog import Dialog, preference_chance
from experiments.tasks.dialogs.words import MODIFIERS, OBJECTS, PARTS, SLOTS, TOPICS, vocabulary
from experiments.tasks.task import SPLITS, split_of

TASK = Dialog()


def naive_value_sum(task: Dialog, prompt: str, words: list[str]) -> float:
    """The sum of v_t, one word at a time."""
    reward, codec = task.reward, task.tokenizer()
    asked = next(word for word in prompt.split() if word in OBJECTS)
    topic = next(i for i, (objects, _) in enumerate(TOPICS.values()) if asked in objects.split())
    content = set(PARTS) | {word for words in SLOTS.values() for word in words.split()}
    total = 0.0
    for place, word in enumerate(words):
        total += reward.utilities[topic, codec.encode(word)[0]]
        if word in OBJECTS:
            total += reward.bonus if word == asked else -1.0
        if word in content and word in words[max(0, place - 12) : place]:
            total -= reward.repeat
    return total


def test_reward_equals_a_naive_one_up_to_centre_and_gain():
    prompt = "how do i fix my old bicycle ?"
    replies = [e.target for e in TASK.replies(np.random.default_rng(0), prompt, 6)]
    replies += ["the car is fine", "chain chain chain", "chain", ""]
    expected = []
    # r (m + damping) / gain + m centre = sum v: two replies fix centre and gain, the rest must fit.
    for reply in replies:
        words = reply.split()
        expected.append((naive_value_sum(TASK, prompt, words), len(words)))
    rewards = TASK.rewards([prompt] * len(replies), replies)
    sums, lengths = np.array(expected).T
    damped = rewards * (lengths + TASK.reward.damping)
    design = np.stack([sums, -lengths], axis=1)
    solution, *_ = np.linalg.lstsq(design, damped, rcond=None)
    np.testing.assert_allclose(design @ solution, damped, atol=1e-9)
    assert solution[0] > 0.1 and rewards[-1] == 0.0


def test_reward_reads_nothing_past_length_and_every_prefix_agrees():
    rng = np.random.default_rng(1)
    prompt_ids = TASK.grammar.encode_prompts(TASK.prompts("test")[:4])
    ids = rng.integers(3, TASK.tokenizer().vocab_size, (4, 40))
    prefixes = TASK.reward.prefixes(prompt_ids, ids)
    for length in (0, 1, 7, 40):
        other = ids.copy()
        other[:, length:] = 5
        cut = np.full(4, length)
        np.testing.assert_allclose(TASK.reward(prompt_ids, ids, cut), prefixes[:, length])
        np.testing.assert_array_equal(
            TASK.reward(prompt_ids, ids, cut), TASK.reward(prompt_ids, other, cut)
        )
    padded = np.pad(prompt_ids, ((0, 0), (3, 2)))
    np.testing.assert_array_equal(
        TASK.reward(padded, ids, np.full(4, 40)), TASK.reward(prompt_ids, ids, np.full(4, 40))
    )


def test_samples_carry_their_reward_and_parse():
    for example in TASK.sample(np.random.default_rng(2), 12, "validation"):
        assert split_of(example.prompt) == "validation"
        assert TASK.verify(example.prompt, example.target) == pytest.approx(example.meta["reward"])
        assert len(example.target.split()) == example.meta["length"] <= TASK.longest
        assert TASK.grammatical(example.target) == 1.0
        assert example.target.endswith(" .") and TASK.extract(example.target) is None
    good = "many people fix the car in the summer ."
    assert TASK.grammatical(f"{good} many car people . {good} the car") == pytest.approx(2 / 3)
    assert TASK.grammatical("the car") == TASK.grammatical("") == 0.0


def test_determinism_and_disjoint_splits():
    first, again, other = (TASK.sample(np.random.default_rng(s), 5, "train") for s in (7, 7, 8))
    assert first == again != other
    assert Dialog().sample(np.random.default_rng(7), 5, "train") == first
    groups = {split: set(TASK.prompts(split)) for split in SPLITS}
    assert sum(map(len, groups.values())) == len(set().union(*groups.values())) == 4608
    assert min(map(len, groups.values())) > 200
    lengths = [len(prompt.split()) for group in groups.values() for prompt in group]
    assert set(lengths) <= set(range(4, 11))


def test_vocabulary_lists_share_no_word():
    lists = [OBJECTS, PARTS, MODIFIERS, *(words.split() for words in SLOTS.values())]
    words = [word for group in lists for word in group]
    assert len(words) == len(set(words))
    assert all(
        len(objects.split()) == len(parts.split()) == 6 for objects, parts in TOPICS.values()
    )
    assert 256 <= len(vocabulary()) + 3 == TASK.tokenizer().vocab_size <= 512


def test_prefix_rewards_foretell_final_rewards():
    rng = np.random.default_rng(3)
    sizes = (8, 32, 128)
    found = {size: [] for size in sizes}
    finals = []
    for prompt in TASK.prompts("test")[::10]:
        examples = TASK.replies(rng, prompt, 64)
        final = np.array([example.meta["reward"] for example in examples])
        for size in sizes:
            heads = [" ".join(e.target.split()[:size]) for e in examples]
            found[size].append(np.corrcoef(TASK.rewards([prompt] * 64, heads), final)[0, 1])
        finals.append(final)
        assert len(np.unique(final)) == 64
    means = [float(np.mean(found[size])) for size in sizes]
    assert 0.4 < means[0] < 0.65 and 0.7 < means[1] < 0.85 and means[2] > 0.9
    assert np.std(finals) == pytest.approx(1.0, abs=0.15)
    assert abs(np.mean(finals)) < 0.15


def test_lengths_vary_about_their_setting():
    rng = np.random.default_rng(4)
    lengths = [e.meta["length"] for e in TASK.sample(rng, 600, "train")]
    assert 150 < np.mean(lengths) < 200 and min(lengths) < 80 and max(lengths) <= 250
    short = Dialog(typical=40, longest=64)
    lengths = [e.meta["length"] for e in short.sample(rng, 200, "train")]
    assert 25 < np.mean(lengths) < 50 and max(lengths) <= 64
    assert short.tokenizer().fingerprint() == TASK.tokenizer().fingerprint()


def test_scale_differs_by_prompt_only_when_asked():
    scaled = Dialog(scale_span=1.0)
    prompt_ids = TASK.grammar.encode_prompts(TASK.prompts("train"))
    assert (TASK.reward.scale(prompt_ids) == 1.0).all()
    scale = scaled.reward.scale(prompt_ids)
    assert 0.1 <= scale.min() < 0.15 and 7.0 < scale.max() <= 10.0001
    prompts = TASK.prompts("test")[:20]
    replies = [TASK.replies(np.random.default_rng(5), prompt, 1)[0].target for prompt in prompts]
    ratio = scaled.rewards(prompts, replies) / TASK.rewards(prompts, replies)
    np.testing.assert_allclose(ratio, scaled.reward.scale(TASK.grammar.encode_prompts(prompts)))


def test_preferences_follow_the_sigmoid():
    pairs = TASK.preferences(np.random.default_rng(6), 1500, "train")
    prompts = [pair.prompt for pair in pairs]
    gap = TASK.rewards(prompts, [p.chosen for p in pairs]) - TASK.rewards(
        prompts, [p.rejected for p in pairs]
    )
    # P(chosen is better | |gap|) = sigmoid(sharpness |gap|): a sum of independent Bernoullis.
    chance = preference_chance(TASK.sharpness * np.abs(gap))
    z = ((gap > 0).sum() - chance.sum()) / np.sqrt((chance * (1 - chance)).sum())
    assert abs(z) < 3.5
    assert 0.02 < (gap < 0).mean() < 0.2
    chance = preference_chance(2 * TASK.sharpness * np.abs(gap))  # a wrong slope is seen
    assert ((gap > 0).sum() - chance.sum()) / np.sqrt((chance * (1 - chance)).sum()) < -3.5
    np.testing.assert_allclose(preference_chance(np.array([-1e4, 0.0, 1e4])), [0.0, 0.5, 1.0])


def test_errors_name_the_argument():
    prompt_ids = TASK.grammar.encode_prompts(TASK.prompts("test")[:2])
    ids = np.full((2, 4), 9)
    with pytest.raises(ValueError, match="length"):
        TASK.reward(prompt_ids, ids, np.array([2, 5]))
    with pytest.raises(ValueError, match="shape"):
        TASK.reward(prompt_ids[:1], ids, np.array([2, 2]))
    with pytest.raises(ValueError, match="names no object"):
        TASK.reward(np.full((2, 3), 9), ids, np.array([2, 2]))
    ids[1, 1] = TASK.tokenizer().eos_id
    with pytest.raises(ValueError, match="end token"):
        TASK.reward(prompt_ids, ids, np.array([4, 4]))
    with pytest.raises(ValueError, match="cannot encode"):
        TASK.verify(TASK.prompts("test")[0], "a word unheard")
    with pytest.raises(ValueError, match="not of this task"):
        TASK.replies(np.random.default_rng(0), "hello", 1)
    with pytest.raises(ValueError, match="typical"):
        Dialog(typical=250, longest=250)
    with pytest.raises(ValueError, match="sharpness"):
        Dialog(sharpness=0.0)
