//! Pages of a map that the file no longer has, or that the disk cannot read.
//!
//! The kernel reports both by SIGBUS, which would end the process: the recorder, because somebody
//! cut a file. The handler here looks the address up among the maps of this crate, marks the map
//! as broken, and puts zero pages in the place of the rest of it. Whoever uses the map checks the
//! mark and returns an error. Any other SIGBUS goes to the handler that was there before.

use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Slots are allocated so many at once, and never freed: the handler may look at any time.
const SLOTS: usize = 64;
/// What `LAST_PASSED` holds for a signal that was sent, not caused by an address.
const SENT: usize = 1;

/// One map, as the handler knows it.
#[derive(Debug)]
pub(super) struct MapSlot {
    /// First address; 0 while the slot is not used.
    start: AtomicUsize,
    /// Address after the last page.
    end: AtomicUsize,
    /// What the map may be used for.
    protection: AtomicI32,
    /// One more than the first byte that was missing; 0 while the map is intact.
    broken: AtomicUsize,
}

struct SlotBlock {
    slots: [MapSlot; SLOTS],
    next: AtomicPtr<SlotBlock>,
}

/// The newest block, which leads to all others.
static BLOCKS: AtomicPtr<SlotBlock> = AtomicPtr::new(null_mut());
/// Slots that are not used.
static FREE: Mutex<Vec<&'static MapSlot>> = Mutex::new(Vec::new());
/// What was done on SIGBUS before this handler was installed.
static PREVIOUS: AtomicPtr<libc::sigaction> = AtomicPtr::new(null_mut());
/// The address of the last signal that was passed on, or `SENT`.
static LAST_PASSED: AtomicUsize = AtomicUsize::new(0);
static PAGE_SIZE: AtomicUsize = AtomicUsize::new(0);

impl MapSlot {
    /// Registers a map of `length` bytes at `start`.
    pub(super) fn register(start: usize, length: usize, protection: i32) -> &'static Self {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        install();
        let slot = free.pop().unwrap_or_else(|| {
            free.extend(more_slots());
            free.pop().expect("slots were just added")
        });
        let page = PAGE_SIZE.load(Ordering::Relaxed);
        slot.protection.store(protection, Ordering::Relaxed);
        slot.broken.store(0, Ordering::Relaxed);
        slot.end.store(start + length.max(1).next_multiple_of(page), Ordering::Relaxed);
        slot.start.store(start, Ordering::Release);
        slot
    }

    /// Forgets the map, which is about to go away.
    pub(super) fn release(&'static self) {
        self.start.store(0, Ordering::Release);
        FREE.lock().unwrap_or_else(PoisonError::into_inner).push(self);
    }

    /// The first byte that was missing, if any was.
    #[inline]
    pub(super) fn broken_at(&self) -> Option<usize> {
        self.broken.load(Ordering::Acquire).checked_sub(1)
    }

    /// Puts zero pages in the place of the map from `address` on. `false` if that is not in it.
    fn mend(&self, address: usize) -> bool {
        let (start, end) = (self.start.load(Ordering::Acquire), self.end.load(Ordering::Acquire));
        if start == 0 || !(start..end).contains(&address) {
            return false;
        }
        let first = address & !(PAGE_SIZE.load(Ordering::Relaxed) - 1);
        // Marked first: no thread may take the zeros for what the file holds.
        let missing = address - start + 1;
        let _ = self.broken.compare_exchange(0, missing, Ordering::AcqRel, Ordering::Acquire);
        // SAFETY: whole pages of a map that this crate made and that is in use by the thread that
        // met the fault, so that it cannot go away meanwhile.
        let mapped = unsafe {
            libc::mmap(
                first as *mut libc::c_void,
                end - first,
                self.protection.load(Ordering::Relaxed),
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        mapped != libc::MAP_FAILED
    }
}

fn more_slots() -> impl Iterator<Item = &'static MapSlot> {
    let slot = |_| MapSlot {
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        protection: AtomicI32::new(0),
        broken: AtomicUsize::new(0),
    };
    let block: &'static mut SlotBlock = Box::leak(Box::new(SlotBlock {
        slots: std::array::from_fn(slot),
        next: AtomicPtr::new(BLOCKS.load(Ordering::Acquire)),
    }));
    BLOCKS.store(block, Ordering::Release);
    block.slots.iter()
}

/// Makes sure that this handler comes first: another library may have installed its own since.
fn install() {
    // SAFETY: plain system calls on values that live through them. The handler is async-signal
    // safe: it uses atomics, `mmap`, `sigaction` and `raise` only.
    unsafe {
        let page = usize::try_from(libc::sysconf(libc::_SC_PAGESIZE)).unwrap_or(4096);
        PAGE_SIZE.store(page, Ordering::Relaxed);
        let mut now: libc::sigaction = std::mem::zeroed();
        let ours = on_bus_error as *const () as usize;
        if libc::sigaction(libc::SIGBUS, null(), &raw mut now) != 0 || now.sa_sigaction == ours {
            return;
        }
        // Never freed: the handler may be reading it.
        PREVIOUS.store(Box::leak(Box::new(now)), Ordering::Release);
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ours;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigemptyset(&raw mut action.sa_mask);
        libc::sigaction(libc::SIGBUS, &raw const action, null_mut());
    }
}

extern "C" fn on_bus_error(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the kernel gives valid pointers; errno belongs to this thread.
    unsafe {
        let errno = *libc::__errno_location();
        let is_fault = (*info).si_code > 0;
        let address = if is_fault { (*info).si_addr() as usize } else { SENT };
        if !(is_fault && is_mended(address)) {
            pass_on(signal, info, context, address);
        }
        *libc::__errno_location() = errno;
    }
}

fn is_mended(address: usize) -> bool {
    let mut block = BLOCKS.load(Ordering::Acquire);
    // SAFETY: blocks are never freed.
    while let Some(here) = unsafe { block.as_ref() } {
        if here.slots.iter().any(|slot| slot.mend(address)) {
            return true;
        }
        block = here.next.load(Ordering::Acquire);
    }
    false
}

/// Does what would have been done without this handler.
///
/// # Safety
/// Only for the handler, with its arguments.
unsafe fn pass_on(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
    address: usize,
) {
    type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
    // The same address twice: the handler before did not mend it, or leads back to this one.
    let is_again = LAST_PASSED.swap(address, Ordering::AcqRel) == address;
    // SAFETY: what was installed before is never freed, and its handler takes what the kernel
    // gave to this one.
    unsafe {
        let previous = PREVIOUS.load(Ordering::Acquire).as_ref();
        let handler = previous.map_or(libc::SIG_DFL, |previous| previous.sa_sigaction);
        let takes_info = previous.is_some_and(|p| p.sa_flags & libc::SA_SIGINFO != 0);
        if is_again || handler == libc::SIG_DFL || handler == libc::SIG_IGN {
            // Nobody handles it: a fault is met again and ends the process, as it should.
            libc::signal(signal, libc::SIG_DFL);
            if address == SENT {
                libc::raise(signal);
            }
        } else if takes_info {
            std::mem::transmute::<usize, Handler>(handler)(signal, info, context);
        } else {
            std::mem::transmute::<usize, extern "C" fn(libc::c_int)>(handler)(signal);
        }
    }
}
