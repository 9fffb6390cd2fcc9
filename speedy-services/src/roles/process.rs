use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use speedy_core::blob::BlobStore;
use speedy_core::meta::EmbeddedMeta;
use speedy_core::store::ChunkStore;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::service::Routes;

use super::{StartError, Waiting};
use crate::address::HostPort;
use crate::admin::{
    self, Metrics, MorePages, Readiness, Traffic, gc_router, meta_router, registry_router, store_router,
};
use crate::cli::{AdminAddress, Role};
use crate::drain::Drain;
use crate::http::{Connections, Patience};
use crate::listen::{ListenError, listen};
use crate::registry::Registry;
use crate::registry::gc::Gc;
use crate::wire::{HealthOf, PeerFigures};
use crate::{files, http, wire};

/// How often what a process needs is asked whether it is there, and how long it may take to answer.
const ASK_EVERY: Duration = Duration::from_secs(1);
const ASK_LIMIT: Duration = Duration::from_secs(3);

/// What every role has: its socket, its admin pages, its drain.
pub(super) struct Process {
    pub(super) listener: TcpListener,
    /// Where it listens, with the port that was bound.
    pub(super) address: HostPort,
    advertise: Option<HostPort>,
    pub(super) drain: Drain,
    pub(super) metrics: Metrics,
    pub(super) readiness: Readiness,
    pub(super) peers: PeerFigures,
    more: MorePages,
    /// Where the admin pages are, with the port that was bound.
    admin: Option<HostPort>,
}

impl Process {
    /// Listens, and serves the admin pages.
    pub(super) async fn start(role: &Role, drain: Drain) -> Result<Self, StartError> {
        let asked = role.listen();
        let listener = listen(asked, "--listen").await?;
        let address = asked.with_port(port_of(&listener, asked, "--listen")?);
        let (metrics, readiness) = (Metrics::new(role.name()), Readiness::default());
        let (options, more, peers) = (role.process(), MorePages::default(), PeerFigures::default());
        peers.register(&metrics);
        let admin = match &options.admin {
            Some(AdminAddress::Off) => None,
            Some(AdminAddress::At(admin)) => Some(admin.clone()),
            None => Some(AdminAddress::default_for(asked.port())),
        };
        let mut admin_at = None;
        if let Some(admin) = admin {
            let pages = listen(&admin, "--admin").await?;
            let at = admin.with_port(port_of(&pages, &admin, "--admin")?);
            tracing::info!("admin pages (/healthz, /readyz, /metrics) on {at}");
            admin_at = Some(at);
            let router = admin::router(metrics.clone(), readiness.clone(), drain.clone(), more.clone());
            // They outlive the drain, which /readyz tells of.
            tokio::spawn(http::serve(pages, router, Drain::new(drain.patience())));
        }
        let advertise = options.advertise.clone();
        Ok(Self { listener, address, advertise, drain, metrics, readiness, peers, more, admin: admin_at })
    }

    /// Offers a store at the admin address, to `speedy store`.
    pub(super) fn offer(&self, store: &Arc<ChunkStore>) {
        self.more.add(store_router(Arc::clone(store), self.drain.clone()));
    }

    /// Offers backups of a metadata store at the admin address, to `speedy meta backup`.
    pub(super) fn offer_backups(&self, meta: &Arc<EmbeddedMeta>) {
        self.more.add(meta_router(Arc::clone(meta), self.drain.clone()));
    }

    /// Offers what the collector does and what repositories take, to `speedy gc` and `speedy usage`. A process without
    /// a collector tells only how the one elsewhere is.
    pub(super) fn offer_gc(&self, blobs: &BlobStore, gc: Option<Gc>) {
        self.more.add(gc_router(blobs.clone(), gc, self.drain.clone()));
    }

    /// Collects until the process drains. The task ends when others may go on with it.
    pub(super) fn collect(&self, gc: Gc) -> JoinHandle<()> {
        tokio::spawn(gc.run_until(self.drain.clone()))
    }

    /// Where others find this process's admin pages, for people.
    pub(super) fn place(&self) -> String {
        let own = self.advertise.as_ref().unwrap_or(&self.address);
        match &self.admin {
            Some(admin) => format!("admin address {admin} of {own}"),
            None => format!("{own}, which has no admin address"),
        }
    }

    /// Shows what a registry does, offers its pages at the admin address, to `speedy read-only` and `speedy uploads`, and
    /// keeps it informed whether pushes are taken. Until it has looked it lets pushes in; what they would change is refused
    /// all the same.
    pub(super) fn offer_registry(&self, registry: &Registry) {
        registry.register(&self.metrics);
        self.more.add(registry_router(registry.clone()));
        let registry = registry.clone();
        self.drain.until(async move {
            // Where that fails it is looked up again within a second.
            let _ = registry.look_up_read_only().await;
            registry.follow().await;
        });
    }

    /// What others dial.
    pub(super) fn advertised(&self) -> Result<HostPort, StartError> {
        match &self.advertise {
            Some(address) => Ok(address.clone()),
            None if self.address.is_wildcard() => Err(StartError::Advertise(self.address.clone())),
            None => Ok(self.address.clone()),
        }
    }

    /// Serves a gRPC service of this name until the process has drained.
    pub(super) async fn serve_grpc(self, service: &'static str, routes: Routes) -> Result<(), StartError> {
        self.more.are_all();
        tracing::info!("listening on {}", self.address);
        let routes = routes.add_service(HealthOf::new(service, self.readiness, self.drain.clone()));
        let traffic = Traffic::grpc();
        traffic.register("grpc", &self.metrics);
        wire::serve_counted(self.listener, routes, self.drain, traffic).await?;
        tracing::info!("drained");
        Ok(())
    }

    /// Serves HTTP to clients, over at most so many connections at once, until the process has drained.
    pub(super) async fn serve_http(self, router: Router, most: Option<NonZeroU32>) {
        self.more.are_all();
        tracing::info!("listening on {}", self.address);
        let connections = Connections::at_most(most, files::left());
        connections.register(&self.metrics);
        http::serve_with(self.listener, router, self.drain, Patience::default(), connections).await;
        tracing::info!("drained");
    }

    /// Keeps a condition of readiness true to what `ask` says, from now on until the process drains. What does not
    /// answer in time does not count as there. Says what is waited for until it is there for the first time.
    pub(super) fn keep_asking<E, F>(&self, name: &'static str, ask: impl Fn() -> F + Send + Sync + 'static)
    where
        E: std::fmt::Display + Send + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        let condition = self.readiness.condition(name, "it has not answered yet");
        self.drain.until(async move {
            let (mut waiting, mut was_there) = (Waiting::default(), false);
            loop {
                let answer = match tokio::time::timeout(ASK_LIMIT, ask()).await {
                    Ok(answer) => answer.map_err(|why| why.to_string()),
                    Err(_) => Err(format!("no answer in {} s", ASK_LIMIT.as_secs())),
                };
                match answer {
                    Ok(()) => {
                        if waiting.over() {
                            tracing::info!("{name}: ready");
                        }
                        was_there = true;
                        condition.met();
                    }
                    Err(why) => {
                        if !was_there && waiting.should_say() {
                            tracing::info!("waiting for {name}: {why}");
                        }
                        condition.unmet(why);
                    }
                }
                tokio::time::sleep(ASK_EVERY).await;
            }
        });
    }

    /// Asks a peer until it answers or the process drains; `None` in the latter case. Says what it waits for.
    pub(super) async fn wait_for<T, E, F>(&self, peer: &'static str, ask: impl Fn() -> F) -> Option<T>
    where
        E: std::fmt::Display,
        F: Future<Output = Result<T, E>>,
    {
        let condition = self.readiness.condition(peer, "it has not answered yet");
        let mut waiting = Waiting::default();
        loop {
            match ask().await {
                Ok(answer) => {
                    if waiting.over() {
                        tracing::info!("{peer} answers");
                    }
                    condition.met();
                    return Some(answer);
                }
                Err(error) => {
                    condition.unmet(error.to_string());
                    if waiting.should_say() {
                        tracing::info!("waiting for {peer}: {error}");
                    }
                }
            }
            tokio::select! {
                () = self.drain.started() => return None,
                () = tokio::time::sleep(Duration::from_millis(500)) => {}
            }
        }
    }
}

fn port_of(listener: &TcpListener, address: &HostPort, option: &'static str) -> Result<u16, ListenError> {
    let bound = listener.local_addr();
    bound.map(|bound| bound.port()).map_err(|source| ListenError::Other {
        address: address.clone(),
        option,
        source,
    })
}
