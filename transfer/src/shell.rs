//! What the three machines of a transfer have in common: what is to be done waits in order, and timers fire.

/// Gives a machine with `actions`, `timers` and a `fire` its shell. Its timers belong to a `$key`; `$is_last` says whether the end of
/// patience with one is the last thing that happens to it: giving up in doubt, or forgetting.
macro_rules! shell {
    ($machine:ident, $key:ty, $is_last:expr) => {
        impl $machine {
            /// The next thing to do, if there is one.
            pub fn poll(&mut self) -> Option<Action> {
                self.actions.pop_front()
            }

            /// When [`Event::TimePassed`] is due.
            pub fn next_deadline(&self) -> Option<Instant> {
                self.timers.next()
            }

            fn time_passed(&mut self, now: Instant) {
                while let Some((key, timer)) = self.timers.pop(now) {
                    self.fire(key, timer, now);
                }
            }

            /// The timers that may fire at any time without loss.
            #[cfg(test)]
            pub(crate) fn timers(&self) -> Vec<($key, Timer)> {
                let is_last: fn(&Self, &$key) -> bool = $is_last;
                let running = self.timers.running();
                running.filter(|(key, timer)| *timer == Timer::Repeat || !is_last(self, key)).collect()
            }
        }
    };
}

pub(crate) use shell;
