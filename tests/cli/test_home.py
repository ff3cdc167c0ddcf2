"""The folders of an installation."""

from cli.home import Home


def test_logs_are_for_their_owner_alone_also_where_they_were_not(tmp_path):
    home = Home(tmp_path / "state")
    home.logs.mkdir(parents=True, mode=0o755)
    home.create()
    assert home.logs.stat().st_mode & 0o777 == 0o700
    home.create()
    assert home.logs.stat().st_mode & 0o777 == 0o700
