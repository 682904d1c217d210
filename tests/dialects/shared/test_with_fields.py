import json

from headgate.dialects.jsonio import with_fields


def test_fields_replace_the_bodys_own_and_objects_are_merged():
    body = b'{"model":"m","store":true,"generationConfig":{"seed":7,"topK":1}}'
    extra = {"store": False, "service_tier": "flex", "generationConfig": {"topK": 2}}
    assert json.loads(with_fields(body, extra)) == {
        "model": "m",
        "store": False,
        "service_tier": "flex",
        "generationConfig": {"seed": 7, "topK": 2},
    }


def test_a_form_is_left_as_it_is():
    assert with_fields(b"--x\r\n{", {"a": 1}) == b"--x\r\n{"
