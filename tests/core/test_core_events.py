import pytest

from headgate.core.chat import Choice, Reasoning, Text, ToolCall
from headgate.core.errors import UpstreamBroken
from headgate.core.events import ChatAnswer, Finished, Started, TextDelta, ToolCallDelta, collect, events_of
from headgate.core.usage import Usage

ANSWER = ChatAnswer(
    id="a",
    model="m",
    choices=[
        Choice(
            parts=[
                Reasoning(text="hm", signature="sig"),
                Text(text="Hello there", citations=[{"kind": "url"}]),
                ToolCall(id="c1", name="f", arguments='{"a":1}'),
            ],
            finish="tool_calls",
        )
    ],
    usage=Usage(input=3, output=4),
)


@pytest.mark.parametrize("size", [0, 1, 3, 100])
def test_an_answer_survives_being_streamed(size):
    assert collect(events_of(ANSWER, size)) == ANSWER


def test_a_stream_without_a_finish_is_broken():
    with pytest.raises(UpstreamBroken):
        collect([Started("a"), TextDelta("half")])


def test_one_of_two_choices_unfinished_is_broken():
    with pytest.raises(UpstreamBroken):
        collect([TextDelta("x", choice=0), TextDelta("y", choice=1), Finished("stop", choice=0)])


def test_arguments_without_their_call_are_an_upstream_fault():
    with pytest.raises(UpstreamBroken):
        collect([ToolCallDelta("{}")])
