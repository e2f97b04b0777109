"""The words of the dialog task: topics, ways to ask, and sentences by tone.

The lists of slots, parts, objects, modifiers and intents share no word, so a word tells which
list it came from. A template's ``{part}`` draws from the topic's parts, ``{verb}``, ``{modifier}``
and ``{object}`` repeat the prompt, and every other slot draws from ``SLOTS``.
"""

# topic: (objects a prompt can name, parts a precise reply can name)
TOPICS = {
    "cooking": ("stove kettle oven blender skillet freezer", "burner lid rack blade handle dial"),
    "garden": ("lawn hedge orchard greenhouse pond terrace", "root soil trellis pump seed mulch"),
    "cycling": (
        "bicycle tandem scooter unicycle trike trailer",
        "chain brake saddle pedal spoke axle",
    ),
    "music": ("piano violin guitar drum flute trumpet", "string bow pick valve reed key"),
    "computing": (
        "laptop printer router monitor server tablet",
        "battery toner antenna screen disk fan",
    ),
    "painting": (
        "canvas mural portrait sketch fresco collage",
        "brush palette primer varnish pigment easel",
    ),
    "driving": (
        "car truck van motorcycle tractor bus",
        "engine tire radiator clutch mirror gearbox",
    ),
    "sewing": (
        "jacket quilt curtain dress scarf costume",
        "zipper needle button hem thread lining",
    ),
    "camping": ("tent lantern hammock canoe backpack kayak", "pole wick rope paddle strap buckle"),
    "animals": (
        "rabbit parrot hamster terrier goldfish pony",
        "cage perch wheel leash filter collar",
    ),
    "building": ("roof fence chimney staircase balcony cellar", "tile post flue rail joist beam"),
    "money": (
        "mortgage budget pension loan invoice policy",
        "interest ledger deposit receipt premium account",
    ),
}
MODIFIERS = ["old", "new", "small", "large", "cheap", "fancy", "simple", "strange"]
# the verb of an intent, and how it is asked
INTENTS = {
    "fix": "how do i fix my {modifier} {object} ?",
    "choose": "which {modifier} {object} should i choose ?",
    "use": "explain how to use the {modifier} {object} .",
    "replace": "is it time to replace my {modifier} {object} ?",
    "clean": "help me clean this {modifier} {object} .",
    "improve": "i want to improve my {modifier} {object} .",
    "find": "where can i find a {modifier} {object} ?",
    "inspect": "can you inspect the {modifier} {object} ?",
}
SLOTS = {
    "rude": "silly stupid boring useless lazy ugly awful pointless",
    "insult": "fool clown idiot beginner dreamer amateur child nobody",
    "hazy": "fine okay different similar complicated unclear possible random",
    "hazily": "somehow perhaps eventually anyway probably sometimes generally mostly",
    "stuff": "things stuff something whatever matters reasons ideas others",
    "common": "common normal ordinary usual popular typical standard regular",
    "season": "spring summer autumn winter morning evening weekend afternoon",
    "lovely": "lovely wonderful great excellent beautiful brilliant charming delightful",
    "support": "patience care practice confidence advice support encouragement courage",
    "manner": "gently carefully slowly firmly evenly steadily quickly neatly",
    "exact": "fresh sharp dry level tight calibrated sturdy accurate",
    "count": "two three four five six seven eight nine",
    "unit": "minutes hours days weeks months turns inches degrees",
}
TONES = (
    (
        "this is a {rude} question from a {rude} person .",
        "stop asking me about your {rude} {object} .",
        "only a {insult} would {verb} the {object} like that .",
        "you are a {rude} {insult} and the {object} is {rude} .",
        "go away and bother another {insult} with this {rude} {object} .",
    ),
    (
        "maybe it is {hazy} or maybe it is {hazy} .",
        "i think people do {stuff} with {stuff} {hazily} .",
        "it depends on {stuff} and also on {stuff} i guess .",
        "well the {object} could be {hazy} or just {hazy} {hazily} .",
        "{hazily} you might try {stuff} and see what happens .",
    ),
    (
        "the {object} is {common} and it has a {part} .",
        "many people {verb} the {object} in the {season} .",
        "there is a {common} way to {verb} a {object} at home .",
        "some owners also use a {part} in the {season} .",
        "a {modifier} {object} is often {common} in the {season} .",
    ),
    (
        "i am happy to help you {verb} your {lovely} {object} .",
        "you can {manner} {verb} the {object} with some {support} .",
        "thank you for this {lovely} question about the {object} .",
        "take your time and enjoy the {lovely} {object} with {support} .",
        "your {modifier} {object} will be {lovely} with a little {support} .",
    ),
    (
        "first check the {part} and adjust the {part} for {count} {unit} .",
        "the {part} needs a {exact} {part} every {count} {unit} .",
        "measure the {part} {count} times before you {verb} the {object} .",
        "a {exact} {part} keeps the {modifier} {object} for {count} {unit} .",
        "{verb} the {object} {manner} with a {exact} {part} .",
    ),
)
OBJECTS = [word for objects, _ in TOPICS.values() for word in objects.split()]
PARTS = [word for _, parts in TOPICS.values() for word in parts.split()]


def vocabulary() -> list[str]:
    """Every word of prompts and replies, once, in order of first use."""
    texts = [*INTENTS, *INTENTS.values(), *(" ".join(pair) for pair in TOPICS.values())]
    texts += [*SLOTS.values(), *MODIFIERS, *(template for tone in TONES for template in tone)]
    found = dict.fromkeys(word for text in texts for word in text.split())
    return [word for word in found if not word.startswith("{")]


def fillers() -> dict[str, frozenset[str]]:
    """The words that each ``{slot}`` of a template may hold, over all prompts."""
    lists = {name: words.split() for name, words in SLOTS.items()}
    lists |= {"part": PARTS, "verb": list(INTENTS), "modifier": MODIFIERS, "object": OBJECTS}
    return {f"{{{name}}}": frozenset(words) for name, words in lists.items()}
