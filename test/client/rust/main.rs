// SPDX-License-Identifier: MIT

// A virtual machine monitor in Rust, without any crate: two threads run a vCPU each, which writes to a port again and
// again. System calls by instructions of its own. Exits with 0 when all is as on KVM.
use std::arch::asm;
use std::process::{exit, Command};
use std::thread;

const OPEN: i64 = 2;
const MMAP: i64 = 9;
const IOCTL: i64 = 16;
const GET_API_VERSION: i64 = 0xae00;
const CREATE_VM: i64 = 0xae01;
const GET_VCPU_MMAP_SIZE: i64 = 0xae04;
const CREATE_VCPU: i64 = 0xae41;
const SET_USER_MEMORY_REGION: i64 = 0x4020ae46;
const RUN: i64 = 0xae80;
const SET_REGS: i64 = 0x4090ae82;
const GET_SREGS: i64 = 0x8138ae83;
const SET_SREGS: i64 = 0x4138ae84;
const EXIT_IO: u32 = 2;
const EXITS: u32 = 2000;
const EINTR: i64 = -4;

fn call(number: i64, a: [i64; 6]) -> i64 {
    let result;
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
             in("r10") a[3], in("r8") a[4], in("r9") a[5], lateout("rcx") _, lateout("r11") _);
    }
    result
}

fn need(what: &str, result: i64) -> i64 {
    if result < 0 && result > -4096 {
        eprintln!("{}: error {}", what, -result);
        exit(1);
    }
    result
}

fn ioctl(what: &str, fd: i64, request: i64, argument: i64) -> i64 {
    need(what, call(IOCTL, [fd, request, argument, 0, 0, 0]))
}

fn map(bytes: i64, flags: i64, fd: i64) -> *mut u8 {
    need("mmap", call(MMAP, [0, bytes, 3, flags, fd, 0])) as *mut u8
}

fn vcpu(vm: i64, size: i64, id: i64) {
    let fd = ioctl("KVM_CREATE_VCPU", vm, CREATE_VCPU, id);
    let page = map(size, 1, fd);
    let mut sregs = [0u8; 0x138];
    ioctl("KVM_GET_SREGS", fd, GET_SREGS, sregs.as_mut_ptr() as i64);
    sregs[0..8].fill(0); // cs.base
    sregs[12..14].fill(0); // cs.selector
    ioctl("KVM_SET_SREGS", fd, SET_SREGS, sregs.as_ptr() as i64);
    let mut regs = [0u64; 18];
    regs[16] = 0x1000; // rip
    regs[17] = 2; // rflags
    ioctl("KVM_SET_REGS", fd, SET_REGS, regs.as_ptr() as i64);
    let mut exits = 0;
    while exits < EXITS {
        let result = call(IOCTL, [fd, RUN, 0, 0, 0, 0]);
        if result == EINTR {
            continue;
        }
        need("KVM_RUN", result);
        let reason = unsafe { (page.add(8) as *const u32).read_volatile() };
        if reason != EXIT_IO {
            eprintln!("KVM_RUN: exit {}", reason);
            exit(1);
        }
        exits += 1;
    }
}

fn main() {
    if std::env::args().len() > 1 {
        exit(9);
    }
    let kvm = need("/dev/kvm", call(OPEN, [b"/dev/kvm\0".as_ptr() as i64, 0o2000002, 0, 0, 0, 0]));
    let version = ioctl("KVM_GET_API_VERSION", kvm, GET_API_VERSION, 0);
    let vm = ioctl("KVM_CREATE_VM", kvm, CREATE_VM, 0);
    let size = ioctl("KVM_GET_VCPU_MMAP_SIZE", kvm, GET_VCPU_MMAP_SIZE, 0);
    let memory = map(1 << 16, 0x22, -1);
    for (i, byte) in [0xe6u8, 0x01, 0xeb, 0xfc].iter().enumerate() {
        unsafe { memory.add(0x1000 + i).write(*byte) }; // out %al, $1; and again
    }
    let slot = [0u64, 0, 1 << 16, memory as u64];
    ioctl("KVM_SET_USER_MEMORY_REGION", vm, SET_USER_MEMORY_REGION, slot.as_ptr() as i64);
    let threads: Vec<_> = (0..2).map(|id| thread::spawn(move || vcpu(vm, size, id))).collect();
    for thread in threads {
        if thread.join().is_err() {
            exit(1);
        }
    }
    let child = Command::new(std::env::current_exe().unwrap()).arg("child").env_clear().status();
    if child.map(|status| status.code()).unwrap_or(None) != Some(9) {
        eprintln!("the child: not as it should end");
        exit(1);
    }
    println!("version {}, {} exits", version, 2 * EXITS);
}
