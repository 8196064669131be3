//! Without faults every partition becomes whole again and commits.

use heddle_proto::ids::TopicPartition;

use super::Checkers;

impl Checkers {
    /// What is not whole although it has had the time.
    pub fn stuck(&mut self, missing: Vec<(TopicPartition, String)>) {
        for (partition, what) in missing {
            self.found("stuck", partition, what);
        }
    }
}
