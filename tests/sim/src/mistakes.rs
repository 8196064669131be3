//! Mistakes planted in what a controller hears and decides, to see that a checker finds them.

use std::collections::BTreeMap;

use heddle_core::cluster::message::Tell;
use heddle_core::metadata::Command;
use heddle_core::metadata::elections::Elected;
use heddle_proto::ids::{Epoch, Offset, TopicPartition};
use heddle_replication::leadership::SealAnswer;

use crate::plan::Bug;

/// See the module.
pub struct Mistakes {
    bug: Option<Bug>,
    /// The answers to the newest seal of each partition.
    answers: BTreeMap<TopicPartition, (i32, BTreeMap<u32, SealAnswer>)>,
}

impl Mistakes {
    /// The mistakes of a plan, or none.
    pub fn new(bug: Option<Bug>) -> Mistakes {
        Mistakes { bug, answers: BTreeMap::new() }
    }

    /// What is heard instead, and what is decided at once.
    pub fn hear(&mut self, tell: &mut Tell) -> Option<Command> {
        match self.bug? {
            Bug::ElectsShortest => {
                for sealed in &mut tell.sealed {
                    let answer = &mut sealed.answer;
                    (answer.accepted, answer.end) = (Epoch::new(0), Offset::new(i64::MAX - answer.end.get()));
                }
                None
            }
            Bug::ElectsTooSoon => {
                let elected = tell.sealed.iter().map(|sealed| Elected {
                    topic: sealed.at.topic,
                    partition: sealed.at.partition.get(),
                    epoch: sealed.epoch,
                    leader: tell.node,
                    life: sealed.answer.life.0,
                    is_lossy: false,
                });
                let elected: Vec<Elected> = elected.collect();
                (!elected.is_empty()).then_some(Command::EndElections { elected })
            }
            Bug::HandsOverToShortest => {
                for sealed in &tell.sealed {
                    let known = self.answers.entry(sealed.at).or_default();
                    if known.0 < sealed.epoch {
                        *known = (sealed.epoch, BTreeMap::new());
                    }
                    if known.0 == sealed.epoch {
                        known.1.insert(tell.node, sealed.answer);
                    }
                }
                None
            }
            _ => None,
        }
    }

    /// What is decided instead.
    pub fn decide(&self, commands: &mut [Command]) {
        if self.bug != Some(Bug::HandsOverToShortest) {
            return;
        }
        for command in commands {
            let Command::EndElections { elected } = command else { continue };
            for elected in elected {
                let known = self.answers.iter().find(|(at, (epoch, _))| {
                    (at.topic, at.partition.get(), *epoch)
                        == (elected.topic, elected.partition, elected.epoch)
                });
                let answers = known.into_iter().flat_map(|(_, (_, answers))| answers);
                let worst = answers.min_by_key(|(_, answer)| (answer.accepted, answer.end));
                if let Some((node, answer)) = worst {
                    (elected.leader, elected.life) = (*node, answer.life.0);
                }
            }
        }
    }
}
