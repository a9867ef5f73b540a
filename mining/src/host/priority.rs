//! Threads that run where nobody else wants to, and on the processors that they are given.

#![expect(unsafe_code, reason = "no safe interface to sched_setscheduler; the call says why")]

use std::io;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::thread::{CpuSet, Pid};

/// Lets every other thread of the machine go first, this one only: SCHED_IDLE, and the lowest
/// niceness for a kernel that refuses it. Makes no fuss where it cannot.
pub fn yield_to_all() {
    // On Linux, "process 0" is the calling thread (setpriority(2), under "C library/kernel
    // differences").
    let _ = rustix::process::setpriority_process(None, 19);
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: reads the parameters, which are there, and concerns the calling thread alone.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &parameters) };
}

/// A thread that others can pin, once it has said which one it is.
#[derive(Debug, Default)]
pub struct LaneThread(AtomicI32);

impl LaneThread {
    /// Makes this the calling thread.
    pub fn enter(&self) {
        self.0.store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::Release);
    }

    /// Binds it to one processor.
    ///
    /// # Errors
    /// Of the kernel: the processor is not there, or not this process's. Of a thread that has not
    /// said who it is: `NotFound`.
    pub fn pin(&self, processor: usize) -> io::Result<()> {
        let thread = Pid::from_raw(self.0.load(Ordering::Acquire));
        let thread = thread.ok_or(io::ErrorKind::NotFound)?;
        set(Some(thread), &[processor])
    }
}

/// Binds the calling thread to these processors.
///
/// # Errors
/// Of the kernel: none of them is there, or this process's.
pub fn pin(processors: &[usize]) -> io::Result<()> {
    set(None, processors)
}

fn set(thread: Option<Pid>, processors: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for processor in processors.iter().filter(|number| **number < CpuSet::MAX_CPU) {
        set.set(*processor);
    }
    Ok(rustix::thread::sched_setaffinity(thread, &set)?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_steps_back_alone() {
        let policy = || {
            let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
            let words: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
            // proc_pid_stat(5): (19) nice and (41) policy; the third is the first here.
            (words[16].to_owned(), words[38].to_owned())
        };
        let before = policy();
        let within = thread::spawn(move || {
            yield_to_all();
            policy()
        });
        assert_eq!(within.join().unwrap(), ("19".to_owned(), "5".to_owned()));
        assert_eq!(policy(), before);
    }

    #[test]
    fn a_thread_is_pinned_from_outside() {
        let lane = Arc::new(LaneThread::default());
        assert_eq!(lane.pin(0).unwrap_err().kind(), io::ErrorKind::NotFound);
        let first = super::super::for_mining()[0];
        let entered = Arc::clone(&lane);
        thread::spawn(move || {
            entered.enter();
            entered.pin(first).unwrap();
            let set = rustix::thread::sched_getaffinity(None).unwrap();
            assert!(set.is_set(first));
            assert_eq!(set.count(), 1);
            assert!(entered.pin(CpuSet::MAX_CPU).is_err());
        })
        .join()
        .unwrap();
    }
}
