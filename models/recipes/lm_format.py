"""What the Python language model reads: its tokenizer, its special tokens and its chat format."""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from models.recipes.stdlib_corpus import Pair

VOCABULARY = 4096
CONTEXT = 2048
"""Longest sequence the model is trained on, in tokens."""

START = "<|endoftext|>"
USER = "<|user|>"
ASSISTANT = "<|assistant|>"
END = "<|end|>"
SPECIAL_TOKENS = [START, USER, ASSISTANT, END]
"""Their positions here are their token ids."""

CHAT_TEMPLATE = (
    "{{ '" + START + "' }}"
    "{% for message in messages %}"
    "{{ ('" + ASSISTANT + "' if message['role'] == 'assistant' else '" + USER + "')"
    " + (message['content'] | trim) + '" + END + "' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '" + ASSISTANT + "' }}{% endif %}"
)
"""Jinja template of a conversation; a system message is shown to the model as a user's."""


def pair_text(pair: Pair) -> str:
    """`pair` as one training document, exactly as the chat template would render it."""
    return f"{START}{USER}{pair.question.strip()}{END}{ASSISTANT}{pair.answer.strip()}{END}"


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of `VOCABULARY` entries learnt from `texts`; it can encode any text."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=START,
        pad_token=START,
        additional_special_tokens=[USER, ASSISTANT, END],
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
