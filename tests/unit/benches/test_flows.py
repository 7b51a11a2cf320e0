"""What flows have seen is counted as it is promised."""

from __future__ import annotations

from mizzen.benches.flows import Packets


def test_only_packets_sent_after_the_switch_and_answered_by_the_old_one_are_late():
    seen = Packets(
        sent=[1.0, 2.0, 3.0, 4.0, 5.0], answers={0: "old", 1: "old", 2: "old", 3: "new", 4: "older"}
    )
    assert seen.late("old", 2.5) == 1
    assert seen.late("old", 0.5) == 3
    assert seen.late("old", 3.0) == 0


def test_a_packet_without_an_answer_is_lost():
    assert Packets(sent=[1.0, 2.0, 3.0], answers={0: "a", 2: "a"}).lost == 1
