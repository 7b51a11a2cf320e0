"""A whole small guest, built by hand: kernel, page tables, symbols, types, and what views read.

RAM is 6 MiB. The image takes the upper four: text, and data in which everything else is.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import cache

from btf import UNION, Types
from symbol_table import lay_out

from mizzen.introspection.kernel.kallsyms import KERNEL_MAP
from mizzen.introspection.memory.physical import PAGE, Range

SIZE = 6 << 20
TEXT, DATA = 2 << 20, 4 << 20
DIRECT_MAP = 0xFFFF_8880_0000_0000
FLAGS, LARGE, NO_EXECUTE = 0x3, 0x80, 1 << 63
TRAMPOLINE = 0x9000
TABLES = DATA + (1 << 20)
"""The page tables; the symbol table is below them."""
TOP, LEVEL3, LEVEL2, UPPER, FIXMAP, MEMMAP = (TABLES + PAGE * number for number in range(6))
MEMMAP_BASE = MEMMAP + PAGE
HEAP = TABLES + 16 * PAGE
BANNER = b"Linux version 6.6.6 (me@there) (gcc) #1 SMP\n\0"
E820 = ((0, 0x9FC00, 1), (0x9FC00, 0x400, 2), (0x100000, SIZE - 0x100000, 1))
VMCOREINFO = b"OSRELEASE=6.6.6\nPAGESIZE=4096\nNUMBER(phys_base)=0\nSYMBOL(prb)=ffffffff80000000\n"

STRUCTS: dict[str, str] = {
    "list_head": "next:ptr prev:ptr",
    "rb_root": "rb_node:ptr",
    "rb_node": "up:ptr right:ptr left:ptr",
    "kuid": "val:u32",
    "cred": "euid:kuid",
    "signal_struct": "nr_threads:int",
    "percpu_counter": "count:s64 counters:ptr",
    "mm_struct": "rss_stat:percpu_counter[4] arg_start:u64 arg_end:u64 pgd:ptr",
    "mnt_namespace": "mounts:rb_root list:list_head",
    "nsproxy": "mnt_ns:*mnt_namespace",
    "file_system_type": "name:*char",
    "super_block": "s_type:*file_system_type s_flags:u64 s_subtype:*char s_magic:u64",
    "qstr": "name:*char",
    "dentry": "d_name:qstr d_parent:ptr",
    "vfsmount": "mnt_root:ptr mnt_sb:*super_block mnt_flags:int",
    "mount": "mnt:vfsmount mnt_node:rb_node mnt_list:list_head mnt_parent:*mount "
    "mnt_mountpoint:ptr mnt_devname:*char",
    "path": "mnt:ptr dentry:ptr",
    "fs_struct": "root:path",
    "inode": "i_mode:u16 i_sb:*super_block",
    "file": "f_inode:*inode private_data:ptr",
    "fdtable": "max_fds:u32 fd:ptr",
    "files_struct": "fdt:*fdtable",
    "sock_common": "skc_daddr:u32 skc_rcv_saddr:u32 skc_dport:u16 skc_num:u16 skc_family:u16 "
    "skc_state:u8 skc_v6_daddr:u8[16] skc_v6_rcv_saddr:u8[16]",
    "sock": "__sk_common:sock_common sk_protocol:u16 sk_type:u16",
    "unix_address": "len:int name:u8[110]",
    "unix_sock": "sk:sock peer:*sock addr:*unix_address",
    "socket": "sk:*sock",
    "task_struct": "tasks:list_head real_parent:*task_struct mm:*mm_struct flags:u32 __state:u32 "
    "exit_state:int cred:*cred signal:*signal_struct start_boottime:u64 comm:char[16] tgid:int "
    "pid:int files:*files_struct fs:*fs_struct nsproxy:*nsproxy",
    "prb_data_blk_lpos": "begin:u64 next:u64",
    "prb_desc": "state_var:u64 text_blk_lpos:prb_data_blk_lpos",
    "prb_desc_ring": "count_bits:u32 descs:ptr infos:ptr head_id:u64 tail_id:u64",
    "prb_data_ring": "size_bits:u32 data:ptr",
    "printk_ringbuffer": "desc_ring:prb_desc_ring text_data_ring:prb_data_ring",
    "printk_info": "seq:u64 ts_nsec:u64 text_len:u16 level:u8",
    "new_utsname": "nodename:char[65] version:char[65]",
    "uts_namespace": "name:new_utsname",
    "tk_read_base": "xtime_nsec:u64 shift:u32 base:u64",
    "timekeeper": "tkr_mono:tk_read_base offs_boot:u64 xtime_sec:u64",
    "tk_data": "lock:u64 timekeeper:timekeeper",
    "zone": "_watermark:u64[4]",
    "pglist_data": "node_zones:zone[3] nr_zones:int",
}  # fmt: skip
COUNTED = (
    "NR_FREE_PAGES", "NR_SLAB_RECLAIMABLE_B", "NR_SLAB_UNRECLAIMABLE_B", "NR_FILE_PAGES",
    "NR_SHMEM", "NR_ANON_MAPPED", "NR_ACTIVE_FILE", "NR_INACTIVE_FILE",
    "NR_KERNEL_MISC_RECLAIMABLE",
)  # fmt: skip
WIDTHS = {"u8": 1, "char": 1, "u16": 2, "u32": 4, "int": 4, "u64": 8, "s64": 8, "ptr": 8}
SIGNED = ("int", "s64")


@dataclass
class Builder:
    """RAM that is filled from HEAP on, and where members are."""

    ram: bytearray = field(default_factory=lambda: bytearray(SIZE))
    next: int = HEAP
    sizes: dict[str, int] = field(default_factory=dict)
    members: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    symbols: dict[str, int] = field(default_factory=dict)

    def types(self) -> bytes:
        """Lay out all structures; return their BTF."""
        types = Types()
        ids = {name: types.integer(name, size, signed=name in SIGNED)
               for name, size in WIDTHS.items()}  # fmt: skip
        first = types.count + 1
        pointers = sorted({member.split(":")[1] for text in STRUCTS.values()
                           for member in text.split() if ":*" in member})  # fmt: skip
        arrays = sorted({member.split(":")[1] for text in STRUCTS.values()
                         for member in text.split() if "[" in member})  # fmt: skip
        behind = first + len(pointers) + len(arrays)
        for number, name in enumerate(STRUCTS):
            ids[name] = behind + number
        for name in pointers:
            ids[name] = types.pointer(ids[name[1:]])
        for name in arrays:
            of, _, length = name[:-1].partition("[")
            ids[name] = types.array(ids[of], int(length))
        for name, text in STRUCTS.items():
            self._struct(types, ids, name, text)
        for enum in ("zone_stat_item", "node_stat_item"):
            types.enum(enum, **{label: n for n, label in enumerate((*COUNTED, f"{enum}_END"))})
        types.struct("", 8, ("whole", ids["u64"], 0), kind=UNION)
        return types.blob()

    def _struct(self, types: Types, ids: dict[str, int], name: str, text: str) -> None:
        offset, members = 0, []
        for member in text.split():
            label, kind = member.split(":")
            offset += -offset % min(8, self.size(kind))
            self.members[name, label] = (offset, kind)
            members.append((label, ids[kind], offset))
            offset += self.size(kind)
        self.sizes[name] = offset + -offset % 8
        types.struct(name, self.sizes[name], *members)

    def size(self, kind: str) -> int:
        of, _, length = kind.rstrip("]").partition("[")
        one = 8 if of.startswith("*") else WIDTHS.get(of) or self.sizes[of]
        return one * int(length or 1)

    def raw(self, data: bytes) -> int:
        """Store bytes; return where they are, as a virtual address."""
        at = self.next
        self.ram[at : at + len(data)] = data
        self.next = at + len(data) + -len(data) % 16
        return KERNEL_MAP + at

    def make(self, name: str, /, **values: int | bytes) -> int:
        """Store a structure; return its address."""
        address = self.raw(bytes(self.sizes[name]))
        self.set(name, address, **values)
        return address

    def set(self, name: str, address: int, /, **values: int | bytes) -> None:
        for path, value in values.items():
            at, kind = self.at(name, path.replace("__dot__", "."))
            data = value if isinstance(value, bytes) else value.to_bytes(self.size(kind), "little")
            place = address - KERNEL_MAP + at
            self.ram[place : place + len(data)] = data

    def at(self, name: str, path: str) -> tuple[int, str]:
        offset, kind = 0, name
        for label in path.split("."):
            inner, kind = self.members[kind, label]
            offset += inner
        return offset, kind


@cache
def built() -> bytes:
    """Return the guest's RAM."""
    return bytes(_filled().ram)


@cache
def hot() -> Range:
    """Return where in RAM most is that views read."""
    return Range(TABLES, _filled().next - TABLES)


@cache
def _filled() -> Builder:
    made = Builder()
    blob = made.raw(types := made.types())
    made.symbols |= {"__start_BTF": blob, "__stop_BTF": blob + len(types)}
    _tables(made)
    _tasks(made)
    _log(made)
    _rest(made)
    for number in range(1100 - len(made.symbols)):
        made.symbols[f"nothing_{number}"] = KERNEL_MAP + TEXT + 16 * number
    window = lay_out("6.12", made.symbols, b"", KERNEL_MAP + DATA).window
    made.ram[DATA : DATA + len(window)] = window
    return made


def _tables(made: Builder) -> None:
    words = {
        LEVEL3 + 8 * 510: LEVEL2 | FLAGS,
        LEVEL3 + 8 * 511: FIXMAP | FLAGS,
        LEVEL2 + 8 * 1: TEXT | LARGE | 1,
        LEVEL2 + 8 * 2: DATA | LARGE | FLAGS | NO_EXECUTE,
        TOP + 8 * 273: UPPER | FLAGS,
        TOP + 8 * 511: LEVEL3 | FLAGS,
        UPPER: LARGE | FLAGS | NO_EXECUTE,
        TRAMPOLINE + 8 * 511: LEVEL3 | FLAGS,
        MEMMAP_BASE: KERNEL_MAP + MEMMAP,
    }
    for at, word in words.items():
        struct.pack_into("<Q", made.ram, at, word)
    e820 = b"".join(struct.pack("<QQI", *entry) for entry in E820)
    made.raw(bytes(64) + e820 + bytes(64))
    made.symbols["linux_banner"] = made.raw(BANNER)
    made.symbols["vmemmap_base"] = KERNEL_MAP + MEMMAP_BASE


def _tasks(made: Builder) -> None:
    init = made.make("task_struct", comm=b"swapper/0")
    one = made.make("task_struct", comm=b"init", tgid=1, pid=1, start_boottime=10**9)
    two = made.make("task_struct", comm=b"two", tgid=2, pid=2, flags=0x200000)
    for task, before, after in ((init, two, one), (one, init, two), (two, one, init)):
        made.set("task_struct", task, tasks=struct.pack("<QQ", after, before), real_parent=init)
    text = made.raw(b"/sbin/init\0--now\0")
    mm = made.make("mm_struct", arg_start=text, arg_end=text + 17,
                   pgd=DIRECT_MAP + TOP)  # fmt: skip
    made.symbols |= {
        "init_task": init,
        "nr_cpu_ids": made.raw(b"\x02\0\0\0"),
        "__per_cpu_offset": made.raw(struct.pack("<Q", KERNEL_MAP + HEAP) * 2),
    }
    kind = made.make("file_system_type", name=made.raw(b"sockfs\0"))
    super_ = made.make("super_block", s_type=kind, s_magic=0x534F434B)
    top, leaf = (made.make("dentry", d_name=struct.pack("<Q", made.raw(name)))
                 for name in (b"/\0", b"proc\0"))  # fmt: skip
    made.set("dentry", top, d_parent=top)
    made.set("dentry", leaf, d_parent=top)
    root = made.make("mount", mnt=struct.pack("<QQI", top, super_, 1), mnt_devname=text)
    below = made.make("mount", mnt=struct.pack("<QQI", leaf, super_, 0x40), mnt_parent=root,
                      mnt_mountpoint=leaf)  # fmt: skip
    made.set("mount", root, mnt_parent=root)
    node, entry = (made.at("mount", label)[0] for label in ("mnt_node", "mnt_list"))
    made.set("mount", root, mnt_node=struct.pack("<QQQ", 0, below + node, 0))
    space = made.make("mnt_namespace", mounts=root + node)
    head = space + made.at("mnt_namespace", "list")[0]
    made.set("mnt_namespace", space, list=struct.pack("<QQ", root + entry, root + entry))
    made.set("mount", root, mnt_list=struct.pack("<QQ", head, head))
    socks = [_unix(made), *(_inet(made, family) for family in (2, 10))]
    files = []
    for sock in socks:
        inode = made.make("inode", i_mode=0o140777, i_sb=super_)
        files.append(made.make("file", f_inode=inode, private_data=made.make("socket", sk=sock)))
    table = made.make("fdtable", max_fds=4, fd=made.raw(struct.pack("<4Q", 0, *files)))
    made.set(
        "task_struct", one, mm=mm, cred=made.make("cred"),
        signal=made.make("signal_struct", nr_threads=3),
        files=made.make("files_struct", fdt=table),
        fs=made.make("fs_struct", root=struct.pack("<QQ", root, top)),
        nsproxy=made.make("nsproxy", mnt_ns=space),
    )  # fmt: skip


def _unix(made: Builder) -> int:
    name = made.make("unix_address", len=8, name=b"\x01\0/run/x")
    sock = made.make("unix_sock", addr=name)
    made.set("unix_sock", sock, peer=sock)
    made.set("sock", sock, sk_type=1)
    made.set("sock_common", sock, skc_family=1, skc_state=1)
    return sock


def _inet(made: Builder, family: int) -> int:
    sock = made.make("sock", sk_protocol=6, sk_type=1)
    made.set("sock_common", sock, skc_family=family, skc_state=10, skc_num=80, skc_dport=5)
    return sock


def _log(made: Builder) -> None:
    descs = infos = texts = b""
    for number in range(4):
        text = struct.pack("<Q", number) + b"Command line: quiet".ljust(24)
        place = len(texts)
        texts += text
        descs += struct.pack("<QQQ", 2 << 62 | number, place, len(texts))
        infos += struct.pack("<QQHB5x", number, number * 10**9, 19, 6)
    desc_ring = struct.pack("<I4x4Q", 2, made.raw(descs), made.raw(infos), 3, 0)
    ring = made.make("printk_ringbuffer", desc_ring=desc_ring,
                     text_data_ring=struct.pack("<I4xQ", 8, made.raw(texts)))  # fmt: skip
    made.symbols["prb"] = made.raw(struct.pack("<Q", ring))


def _rest(made: Builder) -> None:
    note = made.raw(VMCOREINFO)
    names = made.make("uts_namespace",
                      name=b"host".ljust(72, b"\0") + b"#1")  # fmt: skip
    time = struct.pack("<QI4xQQQ", 10**9 << 8, 8, 5 * 10**9, 0, 1_700_000_000)
    node = made.make("pglist_data", nr_zones=3)
    made.symbols |= {
        "vmcoreinfo_size": made.raw(struct.pack("<Q", len(VMCOREINFO))),
        "vmcoreinfo_data": made.raw(struct.pack("<Q", note)),
        "init_uts_ns": names,
        "tk_core": made.make("tk_data", timekeeper=time),
        "contig_page_data": node,
        "saved_command_line": made.raw(struct.pack("<Q", note)),
        "avenrun": made.raw(struct.pack("<3Q", 1, 2, 3)),
        "panic_cpu": made.raw(b"\xff\xff\xff\xff"),
        "tainted_mask": made.raw(struct.pack("<Q", 1)),
        "__num_online_cpus": made.raw(b"\x02\0\0\0"),
        "run_timer_softirq": KERNEL_MAP + TEXT + 0x1000,
        "softirq_vec": made.raw(
            struct.pack("<10Q", *(KERNEL_MAP + TEXT + 0x1000 * n for n in range(10)))
        ),
    }
    for variable in ("vm_zone_stat", "vm_node_stat"):
        made.symbols[variable] = made.raw(struct.pack("<10Q", *range(100, 110)))
    for variable in ("_totalram_pages", "total_swap_pages", "nr_swap_pages", "totalreserve_pages"):
        made.symbols[variable] = made.raw(struct.pack("<Q", 1000))
