from mizzen.host import trees


def test_digest_changes_with_content_name_mode_and_target(tmp_path):
    file = tmp_path / "a"
    file.write_text("x")
    link = tmp_path / "link"
    link.symlink_to("a")
    seen = [trees.digest(tmp_path)]
    file.write_text("y")
    seen.append(trees.digest(tmp_path))
    file.chmod(0o755)
    seen.append(trees.digest(tmp_path))
    file.rename(tmp_path / "b")
    seen.append(trees.digest(tmp_path))
    link.unlink()
    link.symlink_to("b")
    seen.append(trees.digest(tmp_path))
    assert len(set(seen)) == len(seen)


def test_digest_ignores_times_and_order(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, names in ((one, "abc"), (two, "cab")):
        folder.mkdir()
        for name in names:
            (folder / name).write_text(name)
    assert trees.digest(one) == trees.digest(two)
