//! How the operating system shares its processors out, as far as a thread may ask.

use std::time::Duration;

/// Asks that this thread runs for `slice` at most where others want its processor, and so gets it
/// the sooner when it has something to do: its share of the processor stays the same. Threads that
/// it starts do not inherit this. Says whether the system took it: Linux 6.12 and later act on it.
pub fn request_slice(slice: Duration) -> bool {
    request(slice.as_nanos().try_into().unwrap_or(u64::MAX))
}

/// `struct sched_attr` of Linux, in its first version.
#[cfg(target_os = "linux")]
#[derive(Default)]
#[repr(C)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    /// Of threads that share the processor out fairly: the slice, in ns.
    runtime: u64,
    deadline: u64,
    period: u64,
}

#[cfg(target_os = "linux")]
fn request(slice_ns: u64) -> bool {
    const RESET_ON_FORK: u64 = 1;
    let mut attributes = Attributes::default();
    let size = size_of::<Attributes>() as u32;
    // SAFETY: the structure has the size that is given, and lives through the calls; 0 is this
    // thread. All that is not changed is set to what it was.
    unsafe {
        let found = libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0);
        if found != 0 || attributes.policy != libc::SCHED_OTHER as u32 {
            return false;
        }
        attributes.size = size;
        attributes.flags = RESET_ON_FORK;
        attributes.runtime = slice_ns;
        libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) == 0
    }
}

#[cfg(not(target_os = "linux"))]
fn request(_slice_ns: u64) -> bool {
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_may_ask_for_shorter_slices() {
        assert!(std::thread::spawn(|| request_slice(Duration::from_micros(200))).join().unwrap());
    }
}
