//! The admin address: `/metrics`, `/health/live`, `/health/ready`.

use std::{cell::Cell, rc::Rc};

use heddle_log_store::Disk;
use heddle_net::http::{Request, Response};

use super::{metrics::CoreReport, render::prometheus_text};
use crate::shard::{
    Shard,
    request::{CoreReply, CoreRequest},
};

/// What the admin address answers from; filled as boot goes on.
pub struct Admin<D: Disk> {
    shard: Cell<Option<Rc<Shard<D>>>>,
}

impl<D: Disk> Default for Admin<D> {
    fn default() -> Self {
        Admin { shard: Cell::new(None) }
    }
}

impl<D: Disk> Admin<D> {
    /// From here on the node is ready.
    pub fn ready(&self, shard: Rc<Shard<D>>) {
        self.shard.set(Some(shard));
    }

    fn shard(&self) -> Option<Rc<Shard<D>>> {
        let shard = self.shard.take();
        self.shard.set(shard.clone());
        shard
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request) -> Response {
        if request.method != "GET" && request.method != "HEAD" {
            return Response::text(405, "only GET is allowed\n");
        }
        match (request.path.as_str(), self.shard()) {
            ("/health/live", _) => Response::text(200, "live\n"),
            ("/health/ready", Some(shard)) if !shard.is_stopping() => Response::text(200, "ready\n"),
            ("/health/ready", Some(_)) => Response::text(503, "stopping\n"),
            ("/health/ready", None) => Response::text(503, "recovering\n"),
            ("/metrics", Some(shard)) => Response {
                status: 200,
                content_type: "application/openmetrics-text; version=1.0.0; charset=utf-8",
                body: prometheus_text(collect(&shard).await).into(),
            },
            ("/metrics", None) => Response::text(503, "recovering\n"),
            _ => Response::text(404, "there are /metrics, /health/live and /health/ready\n"),
        }
    }
}

/// What every core of the node reports.
pub async fn collect<D: Disk>(shard: &Rc<Shard<D>>) -> Vec<CoreReport> {
    let mut reports = vec![shard.report()];
    for core in shard.mesh.peers() {
        if let Ok(CoreReply::Report(report)) = shard.mesh.ask(core, CoreRequest::Report).await {
            reports.push(*report);
        }
    }
    reports
}
