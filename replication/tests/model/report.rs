//! Runs the checker over one instance and says what it saw.

use std::fmt;
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model};

use super::checked::Action;
use super::instance::Instance;

/// What the checker saw.
pub struct Report {
    /// States reached, each counted once.
    pub state_count: usize,
    /// Steps of the longest way into a state.
    pub depth: usize,
    /// How long it took.
    pub elapsed: Duration,
    /// The property that broke, and the shortest way there.
    pub broken: Option<(&'static str, Vec<Action>)>,
}

impl Report {
    /// Explores all states of an instance, or those at most so many steps away, breadth first, until something breaks.
    pub fn of(instance: Instance, steps_max: Option<usize>) -> Report {
        let begun = Instant::now();
        let checker = instance.checker().finish_when(HasDiscoveries::AnyFailures);
        let checker = match steps_max {
            // The checker counts states, the first included, and leaves out those at the depth it is given.
            Some(steps) => checker.target_max_depth(steps + 2),
            None => checker,
        };
        let checker = checker.spawn_bfs().join();
        let failures = checker
            .discoveries()
            .into_iter()
            .filter(|(name, _)| checker.model().property(name).expectation.discovery_is_failure());
        let shortest = failures
            .map(|(name, path)| (name, path.into_actions()))
            .min_by_key(|(name, actions)| (actions.len(), *name));
        Report {
            state_count: checker.unique_state_count(),
            depth: checker.max_depth(),
            elapsed: begun.elapsed(),
            broken: shortest,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        write!(f, "{} states, depth {}, {seconds:.1} s", self.state_count, self.depth)?;
        if let Some((name, actions)) = &self.broken {
            write!(f, "; broken after {} steps: {name}", actions.len())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)?;
        for action in self.broken.iter().flat_map(|(_, actions)| actions) {
            write!(f, "\n  {action:?}")?;
        }
        Ok(())
    }
}
