"""What is mounted where, as init's /proc/mounts shows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mizzen.introspection.kernel.objects import Object, Objects

from .lists import Broken, Limit, Listing, collected, nodes, tree
from .processes import init_task, tasks

DEPTH_MAX = 4096
NAME_MAX = 255
CURSOR = 0x1000_0000
"""MNT_CURSOR: somebody's place in /proc/mounts, up to 6.7."""
READ_ONLY = 0x40
"""MNT_READONLY, include/linux/mount.h."""
SUPER_READ_ONLY = 0x1
"""SB_RDONLY, include/linux/fs.h."""
FLAGS = (
    (0x01, "nosuid"),
    (0x02, "nodev"),
    (0x04, "noexec"),
    (0x08, "noatime"),
    (0x10, "nodiratime"),
    (0x20, "relatime"),
)
"""MNT_*, in the order in which fs/proc_namespace.c writes them."""

Place = tuple[int, int]
"""A struct path: addresses of a mount and of a dentry in it."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A file system in the tree of init's mount namespace.

    options: those of the mount; the file system's own are left out.
    """

    source: str
    target: str
    type: str
    options: tuple[str, ...]


def mounts(objects: Objects) -> Listing[Mount]:
    """Return the mounts of init's namespace that can be reached from its root.

    Raises Unknown, BadAddress.
    """
    idle = init_task(objects)
    return collected(lambda limit: _mounts(objects, idle, limit))


def _mounts(objects: Objects, idle: Object, limit: Limit) -> Iterator[Mount]:
    init = next((t for t in tasks(objects, idle, limit) if t.number("tgid") == 1), None)
    namespaces = (init and init.follow("nsproxy")) or idle.follow("nsproxy")
    namespace = namespaces.follow("mnt_ns") if namespaces else None
    if namespace is None:
        raise Broken("init has no mount namespace any more")
    root = _root(objects, init) if init else None
    for mount in _members(objects, namespace, limit):
        if mount.number("mnt.mnt_flags") & CURSOR:
            continue
        target = _path(objects, mount, root, limit)
        if target is not None:
            told = _mount(mount, target)
            limit.hold(told.source, told.target, told.type)
            yield told


def _members(objects: Objects, namespace: Object, limit: Limit) -> Iterator[Object]:
    """Yield a namespace's mounts: a list, since 6.8 a tree (commit 2eea9ce4310d)."""
    if objects.btf.has("mount", "mnt_node"):
        for node in tree(objects, namespace.place("mounts"), limit):
            yield objects.around("mount", "mnt_node", node)
    else:
        for node in nodes(objects, namespace.place("list"), limit):
            yield objects.around("mount", "mnt_list", node)


def _root(objects: Objects, task: Object) -> Place | None:
    fs = task.follow("fs")
    if fs is None:
        return None
    mount = objects.around("mount", "mnt", fs.number("root.mnt"))
    return mount.address, fs.number("root.dentry")


def _path(objects: Objects, mount: Object, root: Place | None, limit: Limit) -> str | None:
    """Return where a mount is, seen from a root; None if it is not below it."""
    names: list[str] = []
    dentry = mount.number("mnt.mnt_root")
    for _ in range(DEPTH_MAX):
        limit.spend()
        if (mount.address, dentry) == root:
            return "/" + "/".join(reversed(names))
        if dentry == mount.number("mnt.mnt_root"):
            above = mount.follow("mnt_parent")
            if above is None or above.address == mount.address:
                return None if root else "/" + "/".join(reversed(names))
            dentry = mount.number("mnt_mountpoint")
            mount = above
            continue
        entry = objects.at("dentry", dentry)
        names.append(objects.string(entry.number("d_name.name"), NAME_MAX + 1))
        dentry = entry.number("d_parent")
    raise Broken("a path goes on for ever")


def _mount(mount: Object, target: str) -> Mount:
    flags = mount.number("mnt.mnt_flags")
    super_block = mount.follow("mnt.mnt_sb")
    if super_block is None:
        raise Broken("a mount has no file system")
    read_only = flags & READ_ONLY or super_block.number("s_flags") & SUPER_READ_ONLY
    kind = super_block.follow("s_type")
    name = kind.string("name") if kind else ""
    subtype = super_block.string("s_subtype")
    return Mount(
        source=mount.string("mnt_devname") or "none",
        target=target,
        type=f"{name}.{subtype}" if subtype else name,
        options=(
            "ro" if read_only else "rw",
            *(option for flag, option in FLAGS if flags & flag),
        ),
    )
