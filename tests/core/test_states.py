import threading

import pytest
from django.db import connection

from apps.core.models import Operation
from apps.core.states import Conflict, move


def make(**values):
    return Operation.objects.create(kind="k", workspace="lab", target="t", lock="l", **values)


@pytest.mark.django_db
def test_move_writes_state_and_values_and_refuses_an_unexpected_state():
    operation = make()
    move(operation, "running", expect="queued", percent=7)
    assert (operation.state, operation.percent) == ("running", 7)
    operation.refresh_from_db()
    assert (operation.state, operation.percent) == ("running", 7)
    with pytest.raises(Conflict):
        move(operation, "failed", expect=["queued"])
    operation.refresh_from_db()
    assert operation.state == "running"


@pytest.mark.django_db(transaction=True)
def test_of_two_movers_one_wins_and_the_other_is_told():
    operation = make()
    results = []
    barrier = threading.Barrier(2)

    def mover():
        mine = Operation.objects.get(pk=operation.pk)
        barrier.wait()
        try:
            move(mine, "running", expect="queued")
            results.append("won")
        except Conflict:
            results.append("lost")
        finally:
            connection.close()

    threads = [threading.Thread(target=mover) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["lost", "won"]
