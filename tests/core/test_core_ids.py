import time

from headgate.core.ids import new_id


def test_ids_are_ulids_sortable_and_different():
    first = [new_id("tr") for _ in range(200)]
    time.sleep(0.002)
    later = new_id("tr")
    assert len(set(first)) == 200
    assert all(
        len(i) == 29 and i.startswith("tr_") and set(i[3:]) <= set("0123456789ABCDEFGHJKMNPQRSTVWXYZ") for i in first
    )
    assert later > max(first)
