//! Wakes a thread at a moment, finer than the millisecond that waiting for sockets is counted in.

#[cfg(target_os = "linux")]
pub(crate) use linux::Alarm;
#[cfg(not(target_os = "linux"))]
pub(crate) use portable::Alarm;

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::os::fd::{AsRawFd as _, OwnedFd};
    use std::time::Duration;

    use mio::unix::SourceFd;
    use mio::{Interest, Registry, Token};
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };

    /// A timer that is waited for like a socket.
    pub(crate) struct Alarm(OwnedFd);

    impl Alarm {
        /// Registers a timer that has not been set.
        pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
            let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
            registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
            Ok(Self(timer))
        }

        /// Wakes the thread once, after `wait`; an earlier setting is forgotten.
        ///
        /// Setting it also takes away that it has gone off, so nobody needs to read it.
        pub(crate) fn set(&self, wait: Duration) -> io::Result<()> {
            // Zero would turn it off.
            let value = Timespec::try_from(wait.max(Duration::from_nanos(1))).map_err(io::Error::other)?;
            let interval = Timespec { tv_sec: 0, tv_nsec: 0 };
            let setting = Itimerspec { it_interval: interval, it_value: value };
            timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &setting)?;
            Ok(())
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod portable {
    use std::io;
    use std::time::Duration;

    use mio::{Registry, Token, Waker};

    /// Wakes the thread at once, as often as it asks: exact, but it keeps a core busy.
    pub(crate) struct Alarm(Waker);

    impl Alarm {
        pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
            Waker::new(registry, token).map(Self)
        }

        pub(crate) fn set(&self, _: Duration) -> io::Result<()> {
            self.0.wake()
        }
    }
}
