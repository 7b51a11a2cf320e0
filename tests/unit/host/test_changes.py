import asyncio

from mizzen.host.changes import Changes


def test_writing_creating_and_deleting_are_told_folder_by_folder(tmp_path):
    async def scenario():
        with Changes() as changes:
            one, other = tmp_path / "one", tmp_path / "other"
            assert changes.watch(one) is None
            one.mkdir()
            other.mkdir()
            changed, still = changes.watch(one), changes.watch(other)
            assert changes.watch(one) is changed
            for act in (
                lambda: (one / "file").write_text("a"),
                lambda: (one / "file").rename(one / "moved"),
                (one / "moved").unlink,
                one.rmdir,
            ):
                changed.clear()
                act()
                await changed.wait()
            assert not still.is_set()
            one.mkdir()
            await asyncio.sleep(0)
            assert changes.watch(one) is not changed

    asyncio.run(scenario())
