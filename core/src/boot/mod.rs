//! Starting and stopping the broker, as named stages, each giving the next one what it needs.
//!
//! 1. [`serve`] checks the machine, takes the data directory ([`data_dir`]) and the ports ([`listen`]).
//! 2. Every core runs [`core::run`]: metadata, recovery of the WALs, mesh, then it serves.
//! 3. SIGTERM or SIGINT ends serving; every core drains its logs, and the process ends with status 0.

pub mod core;
pub mod data_dir;
pub mod listen;
pub mod logging;
pub mod meeting;
pub mod metadata;
pub mod plan;
pub mod promises;

use std::{sync::Arc, time::Duration};

use crate::{
    config::Config,
    doctor,
    fatal::Fatal,
    runtime::{
        executors::{self, ExecutorOptions},
        memory,
        mesh::full_mesh,
        signals, wakeup,
    },
};
use plan::Plan;

/// Runs the broker until it is told to stop.
///
/// # Errors
/// Why it does not start, or cannot go on.
pub fn serve(config: Config) -> Result<(), Fatal> {
    logging::start(&config.log);
    signals::install();
    for finding in doctor::preflight(&config)? {
        if finding.verdict != doctor::Verdict::Ok {
            tracing::warn!(check = finding.check, advice = finding.advice.as_deref(), "{}", finding.what);
        }
    }
    if config.keep_memory {
        memory::keep_freed_memory();
    }
    if config.touch_memory
        && let Err(error) = memory::bring_in(config.memory_bytes * config.core_count() as u64)
    {
        tracing::warn!(%error, "touch_memory: no thread for it; pages come as they are used");
    }
    // A refusal was among the warnings above.
    let _awake = config.wakeup_latency.and_then(|limit| wakeup::limit_wakeup(limit).ok());
    let data_dir = data_dir::take(&config)?;
    let mut sockets = listen::bind(&config)?;
    let mut ends = full_mesh(config.core_count() as u16);
    let options = ExecutorOptions {
        spin: config.spin,
        io_memory_bytes: executors::io_memory_bytes(
            executors::memlock_limit_bytes(),
            config.core_count() as u16,
        ),
    };
    tracing::info!(
        cores = config.core_count(),
        profile = config.profile,
        data_dir = %config.data_dir.display(),
        listen = %config.listen,
        "starting"
    );
    let secret = metadata::read_secret(&config)?;
    let plan = Arc::new(Plan::new(config, data_dir, secret));
    let mut cores = Vec::with_capacity(plan.config.core_count());
    for (index, cpu) in plan.config.cpus.iter().copied().enumerate() {
        let (plan, socket, ends) = (plan.clone(), sockets.take(index), ends.remove(0));
        cores.push(executors::start(index, cpu, options, move || {
            core::run(plan, index as u16, socket, ends)
        })?);
    }
    for core in cores {
        core.join()??;
    }
    tracing::info!("stopped cleanly");
    Ok(())
}

/// How long connections get to send what they owe before they are cut at a stop.
pub const STOP_GRACE: Duration = Duration::from_secs(2);

/// How long a node that stops waits for others to lead what it led.
pub const HAND_OVER_MAX: Duration = Duration::from_secs(3);
