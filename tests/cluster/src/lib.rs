//! Real clusters of three to five broker processes, with faults from outside, load, and a checker of what came of it.
//!
//! ```text
//! cargo build --release -p heddle-core -p heddle-cluster-tests
//! sudo target/release/heddle-cluster doctor                     # can this machine do it?
//! sudo target/release/heddle-cluster run --seed 1 --faults 20 --report faults.tsv
//! sudo target/release/heddle-cluster run --seed 1 --faults 5 --kind kill --kind cut --nodes 5 --keep /var/tmp/run
//! target/release/heddle-cluster up --nodes 3 --dir /tmp/three          # on 127.0.0.1, until Ctrl-C
//! sudo target/release/heddle-cluster run --standalone --nodes 1 --faults 5      # to try the harness with one node
//! ```
//!
//! **A run** starts the nodes, each in a network namespace and on a disk of its own ([`network`], [`disk`]); writes with
//! idempotent, transactional and native clients ([`kafka_writer`], [`transactions`], [`native`]) while others read; injects
//! the faults that the seed chooses one after the other ([`fault`], [`inject`]); waits after each until the cluster is whole
//! again; and measures how long writers went without an answer ([`availability`]). At the end every partition is read from
//! every side, and the [`history`] is checked for the anomalies of [`checker`].
//!
//! The exit status is 0 if nothing was found. The summary has a line per kind of fault: how many, partitions whose writers
//! noticed, their longest gaps between acknowledgements (p50, p99, max), and errors that surfaced to clients with default
//! settings. `--report` writes a line per fault. A seed repeats the choice of faults, not the moments at which they hit.
//!
//! **It takes** Linux, root, `ip` (iproute2), `mkfs.ext4` and loop devices; no packet filter and no netem ([`network`],
//! [`delay_line`]). Nothing of the host's own network changes. Namespaces, mounts and processes of a run end with it, also
//! when it is killed ([`watchdog`], [`node`]).
//!
//! **Not covered**: clock jumps, which a process cannot be given apart from its machine ([`fault::Kind::Clock`]); loss of
//! power, since the page cache below the loop devices survives kills; both are the simulator's.

pub mod availability;
pub mod checker;
pub mod cluster;
pub mod delay_line;
pub mod disk;
pub mod doctor;
pub mod ends;
pub mod error;
pub mod fault;
pub mod history;
pub mod inject;
pub mod kafka_writer;
pub mod load;
pub mod native;
pub mod network;
pub mod node;
pub mod readers;
pub mod report;
pub mod run;
pub mod shell;
pub mod transactions;
pub mod up;
pub mod value;
pub mod watchdog;
