//! Numbers for operators: one set for each node of this process, in Prometheus' text.
//!
//! Every label has a bounded set of values, written in the code: never the name of a service or an instance.

mod family;
mod histogram;

use std::collections::BTreeMap;
use std::sync::Arc;

use metrics::{Counter, Gauge, KeyName, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use parking_lot::Mutex;

use family::Family;
pub use histogram::Histogram;

/// One node's numbers. Counting is an atomic addition or two, and never waits.
pub struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    /// The request seconds of each route and method seen, with their labels as they are printed.
    request_seconds: Mutex<BTreeMap<RouteAndMethod, Arc<Histogram>>>,
    node: String,
    changes: Family,
    notices: Family,
    node_states: States,
    bus_states: States,
    frames_sent: Family,
    frames_received: Family,
    frames_bad: Family,
    dropped: Family,
    events_lost: Family,
    stream_events: Family,
    warm_writes: Family,
    /// When the warm file was last written, in seconds since 1970; 0: not by this process.
    pub warm_written_at: Gauge,
    pulls: Family,
    probes: Family,
    /// Probes on their way.
    pub probes_in_flight: Gauge,
    repaired: Family,
    /// Heartbeats that were taken without asking the registry.
    pub heartbeats_renewed: Counter,
    /// Heartbeats that the registry decided on: relayed, late, or refused.
    pub heartbeats_asked: Counter,
    /// Bytes given to the bus.
    pub bus_sent_bytes: Counter,
    /// Bytes heard on the bus.
    pub bus_received_bytes: Counter,
    /// How often the bus connected anew.
    pub bus_reconnects: Counter,
    /// Visible instances.
    pub instances: Gauge,
    /// Services with a visible instance.
    pub services: Gauge,
    /// Live records held.
    pub records: Gauge,
    /// Withdrawn records remembered.
    pub withdrawn: Gauge,
    /// Leases held by this node.
    pub leases: Gauge,
    /// Instances that stay listed by self-preservation.
    pub preserved_instances: Gauge,
    /// Services that have such an instance.
    pub preserved_services: Gauge,
    /// How long this node and its peers have not been converged; 0 when they are.
    pub diverged_seconds: Gauge,
    /// In how many services the last comparison found records that differ; 0 once converged.
    pub diverged_services: Gauge,
    /// How many nodes count when a majority is looked for, this one among them.
    pub members: Gauge,
    /// How many of them this node hears, itself among them.
    pub members_heard: Gauge,
    /// 1 while this node judges who is silent.
    pub judges: Gauge,
    /// Records of peers that were not taken.
    pub quarantined: Counter,
    /// Live instances whose lease this node took from another.
    pub ownership_moves: Counter,
    /// Open connections.
    pub connections: Gauge,
    /// Connections refused because too many were open.
    pub connections_refused: Counter,
    /// Connections closed because no request arrived in time.
    pub connections_timed_out: Counter,
    /// TLS handshakes that came to nothing.
    pub handshakes_failed: Counter,
    /// Defects met while answering.
    pub panics: Counter,
    /// Open subscriptions.
    pub streams: Gauge,
    /// Open connections that hold leases.
    pub attachments: Gauge,
    /// Subscriptions, and connections that were to hold leases, refused because too many were open.
    pub streams_refused: Counter,
}

/// The numbers of the node of this name; the same ones for whoever asks. A process has few nodes: one, or those of `dev`.
#[must_use]
pub fn of(node: &str) -> Arc<Metrics> {
    static NODES: Mutex<BTreeMap<String, Arc<Metrics>>> = Mutex::new(BTreeMap::new());
    let mut nodes = NODES.lock();
    if let Some(known) = nodes.get(node) {
        return Arc::clone(known);
    }
    let metrics = Arc::new(Metrics::new(node));
    nodes.insert(node.to_owned(), Arc::clone(&metrics));
    metrics
}

type RouteAndMethod = (Arc<str>, &'static str);

/// How one kind of request is counted; to be kept by whoever answers such requests.
#[derive(Clone)]
pub struct RequestCounters {
    /// Requests answered.
    pub answered: Counter,
    /// How long it took to answer them.
    pub seconds: Arc<Histogram>,
}

/// The words a state gauge can have, and which one it has.
struct States {
    gauges: Vec<(&'static str, Gauge)>,
}

impl Metrics {
    fn new(node: &str) -> Self {
        let recorder = Arc::new(PrometheusBuilder::new().add_global_label("node", node).build_recorder());
        let family = |name, label, help| Family::new(Arc::clone(&recorder), name, label, help);
        let counter = |name, help| counter(&recorder, name, help);
        let gauge = |name, help| gauge(&recorder, name, help);
        build_info(&recorder);
        Self {
            request_seconds: Mutex::default(),
            node: node.to_owned(),
            changes: family("muster_changes_total", "cause", "Records written here, by what changed them"),
            heartbeats_renewed: heartbeats(&recorder, "renewed"),
            heartbeats_asked: heartbeats(&recorder, "asked"),
            notices: family("muster_notices_total", "kind", "What an operator should hear of, by kind; the log has the words"),
            node_states: States::new(&recorder, "muster_node_state", "1 for the state the node is in", &NODE_STATES),
            bus_states: States::new(&recorder, "muster_bus_state", "1 for the state the bus is in", &BUS_STATES),
            frames_sent: family("muster_bus_frames_sent_total", "kind", "Frames given to the bus, by kind"),
            frames_received: family("muster_bus_frames_received_total", "kind", "Sound frames heard on the bus, by kind"),
            frames_bad: family("muster_bus_frames_bad_total", "why", "Frames that changed nothing, by what was wrong with them"),
            dropped: family("muster_dropped_total", "queue", "What a full queue let go of, by queue; it is said or asked again"),
            events_lost: family(
                "muster_events_lost_total",
                "where",
                "Events of the history that did not get there: to the `disk`, the `bus`, or a slow `stream`",
            ),
            stream_events: family("muster_stream_events_total", "event", "Events written to subscribers, by event"),
            warm_writes: family("muster_warm_writes_total", "result", "Writes of the warm file: `ok` or `failed`"),
            warm_written_at: gauge(
                "muster_warm_last_success_seconds",
                "When the warm file was last written, in seconds since 1970; 0: not by this process",
            ),
            probes: family(
                "muster_probes_total",
                "outcome",
                "Looks at instances, by what they brought; `not_tried`: their targets were asked too often",
            ),
            probes_in_flight: gauge("muster_probes_in_flight", "Looks at instances on their way"),
            pulls: family("muster_pulls_total", "kind", "How often this node asked a peer for what it lacks, by what it asked for"),
            repaired: family("muster_repaired_records_total", "kind", "Records that such pulls brought, by what was asked for"),
            quarantined: counter(
                "muster_quarantined_records_total",
                "Records and overrides of peers that broke a rule or a limit and were not taken",
            ),
            ownership_moves: counter(
                "muster_ownership_moves_total",
                "Live instances whose lease this node took over from another life of a node",
            ),
            preserved_instances: gauge(
                "muster_preserved_instances",
                "Instances that would have expired, and stay listed: their silence proves nothing",
            ),
            preserved_services: gauge("muster_preserved_services", "Services that have such an instance"),
            diverged_seconds: gauge("muster_diverged_seconds", "How long this node and its peers have not been converged; 0 when they are"),
            diverged_services: gauge(
                "muster_diverged_services",
                "In how many services the last comparison with a peer found records that differ; 0 once converged",
            ),
            members: gauge("muster_members", "Nodes that count when a majority is looked for, this one among them"),
            members_heard: gauge("muster_members_heard", "Those of them that this node hears, itself among them"),
            judges: gauge("muster_judges", "1 while this node judges who is silent; at 0 nothing expires and nothing is taken over"),
            bus_sent_bytes: counter("muster_bus_sent_bytes_total", "Bytes given to the bus"),
            bus_received_bytes: counter("muster_bus_received_bytes_total", "Bytes heard on the bus"),
            bus_reconnects: counter("muster_bus_reconnects_total", "How often the bus connected anew"),
            instances: gauge("muster_instances", "Visible instances"),
            services: gauge("muster_services", "Services with a visible instance"),
            records: gauge("muster_records", "Live records held"),
            withdrawn: gauge("muster_withdrawn_records", "Withdrawn records remembered"),
            leases: gauge("muster_leases", "Leases held by this node"),
            connections: gauge("muster_http_connections", "Open connections"),
            connections_refused: counter("muster_http_connections_refused_total", "Connections refused because too many were open"),
            connections_timed_out: counter(
                "muster_http_connections_timed_out_total",
                "Connections closed because no request arrived in time",
            ),
            handshakes_failed: counter(
                "muster_http_handshakes_failed_total",
                "TLS handshakes that failed: no TLS, no common version, or a certificate the client refused",
            ),
            panics: counter("muster_http_panics_total", "Defects met while answering; the log has the words"),
            streams: gauge("muster_streams", "Open subscriptions"),
            attachments: gauge("muster_attachments", "Open connections that hold leases"),
            streams_refused: counter("muster_streams_refused_total", "Streams refused because too many were open"),
            recorder,
        }
    }

    /// How requests to this route are counted. For a few hundred combinations at the most: routes and statuses are the code's,
    /// and a method that is none of HTTP's is `other`.
    #[must_use]
    pub fn requests(&self, route: &Arc<str>, method: &'static str, status: u16) -> RequestCounters {
        describe(&self.recorder, "muster_http_requests_total", "Requests answered");
        let labels = vec![("route", route.to_string()), ("method", method.to_owned()), ("status", status.to_string())];
        let answered = family::register_counter(&self.recorder, "muster_http_requests_total", &labels);
        let seconds = Arc::clone(self.request_seconds.lock().entry((Arc::clone(route), method)).or_default());
        RequestCounters { answered, seconds }
    }

    /// A record was written here.
    pub fn changed(&self, cause: &'static str) {
        self.changes.add(cause, 1);
    }

    /// An operator should hear of this.
    pub fn noticed(&self, kind: &'static str) {
        self.notices.add(kind, 1);
    }

    /// The node is now in this state.
    pub fn node_state(&self, state: &str) {
        self.node_states.set(state);
    }

    /// The bus is now in this state.
    pub fn bus_state(&self, state: &str) {
        self.bus_states.set(state);
    }

    /// A frame was given to the bus.
    pub fn frame_sent(&self, kind: &'static str, bytes: usize) {
        self.frames_sent.add(kind, 1);
        self.bus_sent_bytes.increment(bytes as u64);
    }

    /// A sound frame was heard on the bus.
    pub fn frame_received(&self, kind: &'static str, bytes: usize) {
        self.frames_received.add(kind, 1);
        self.bus_received_bytes.increment(bytes as u64);
    }

    /// A frame was heard that changed nothing.
    pub fn frame_bad(&self, why: &'static str) {
        self.frames_bad.add(why, 1);
    }

    /// A full queue let go of something.
    pub fn dropped(&self, queue: &'static str) {
        self.dropped.add(queue, 1);
    }

    /// Events of the history did not get somewhere.
    pub fn events_lost(&self, place: &'static str, count: u64) {
        self.events_lost.add(place, count);
    }

    /// Events were written to a subscriber.
    pub fn stream_events(&self, event: &'static str, count: u64) {
        self.stream_events.add(event, count);
    }

    /// The warm file was written, or could not be.
    pub fn warm_written(&self, is_ok: bool) {
        self.warm_writes.add(if is_ok { "ok" } else { "failed" }, 1);
    }

    /// An instance was looked at.
    pub fn probed(&self, outcome: &'static str) {
        self.probes.add(outcome, 1);
    }

    /// A peer was asked for what this node lacks.
    pub fn pulled(&self, kind: &'static str) {
        self.pulls.add(kind, 1);
    }

    /// Such a question brought records.
    pub fn repaired(&self, kind: &'static str, records: u64) {
        self.repaired.add(kind, records);
    }

    /// All of it, in Prometheus' text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = self.recorder.handle().render();
        let name = "muster_http_request_seconds";
        histogram::head(&mut text, name, "How long requests took to answer; of a stream, its head");
        for ((route, method), histogram) in &*self.request_seconds.lock() {
            let labels = format!("node=\"{}\",route=\"{route}\",method=\"{method}\"", self.node);
            histogram.render(&mut text, name, &labels);
        }
        text
    }
}

const NODE_STATES: [&str; 4] = ["warming", "ready", "preserving", "leaving"];
const BUS_STATES: [&str; 4] = ["none", "up", "deaf", "down"];

impl States {
    fn new(recorder: &PrometheusRecorder, name: &'static str, help: &'static str, states: &[&'static str]) -> Self {
        recorder.describe_gauge(KeyName::from_const_str(name), None::<Unit>, SharedString::const_str(help));
        let gauge = |state: &&'static str| (*state, family::register_gauge(recorder, name, &[("state", (*state).to_owned())]));
        Self { gauges: states.iter().map(gauge).collect() }
    }

    fn set(&self, state: &str) {
        for (known, gauge) in &self.gauges {
            gauge.set(if *known == state { 1.0 } else { 0.0 });
        }
    }
}

fn describe(recorder: &PrometheusRecorder, name: &'static str, help: &'static str) {
    recorder.describe_counter(KeyName::from_const_str(name), None::<Unit>, SharedString::const_str(help));
}

fn counter(recorder: &PrometheusRecorder, name: &'static str, help: &'static str) -> Counter {
    describe(recorder, name, help);
    family::register_counter(recorder, name, &[])
}

fn heartbeats(recorder: &PrometheusRecorder, how: &'static str) -> Counter {
    let name = "muster_heartbeats_total";
    describe(recorder, name, "Heartbeats: `renewed` at once, or `asked` of the registry: relayed, late or refused");
    family::register_counter(recorder, name, &[("how", how.to_owned())])
}

fn gauge(recorder: &PrometheusRecorder, name: &'static str, help: &'static str) -> Gauge {
    recorder.describe_gauge(KeyName::from_const_str(name), None::<Unit>, SharedString::const_str(help));
    family::register_gauge(recorder, name, &[])
}

fn build_info(recorder: &PrometheusRecorder) {
    let name = "muster_build_info";
    recorder.describe_gauge(KeyName::from_const_str(name), None::<Unit>, SharedString::const_str("1, labelled with the version"));
    family::register_gauge(recorder, name, &[("version", env!("CARGO_PKG_VERSION").to_owned())]).set(1.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_who_name_one_node_count_together_and_two_nodes_apart() {
        of("metrics-a").changed("registered");
        of("metrics-a").changed("registered");
        of("metrics-b").changed("registered");
        assert!(of("metrics-a").render().contains("muster_changes_total{node=\"metrics-a\",cause=\"registered\"} 2"));
        assert!(of("metrics-b").render().contains("muster_changes_total{node=\"metrics-b\",cause=\"registered\"} 1"));
        assert!(!of("metrics-b").render().contains("metrics-a"));
    }

    #[test]
    fn a_state_is_one_of_its_words() {
        let metrics = of("metrics-state");
        metrics.node_state("warming");
        metrics.node_state("ready");
        let text = metrics.render();
        assert!(text.contains("muster_node_state{node=\"metrics-state\",state=\"ready\"} 1"), "{text}");
        assert!(text.contains("muster_node_state{node=\"metrics-state\",state=\"warming\"} 0"), "{text}");
    }

    #[test]
    fn requests_are_counted_by_route_and_timed() {
        let metrics = of("metrics-requests");
        let counters = metrics.requests(&Arc::from("/livez"), "GET", 200);
        counters.answered.increment(1);
        counters.seconds.record_ns(2_000_000);
        let text = metrics.render();
        assert!(
            text.contains("muster_http_requests_total{node=\"metrics-requests\",route=\"/livez\",method=\"GET\",status=\"200\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("muster_http_request_seconds_bucket{node=\"metrics-requests\",route=\"/livez\",method=\"GET\",le=\"0.0025\"} 1")
        );
        assert!(
            text.contains("muster_http_request_seconds_bucket{node=\"metrics-requests\",route=\"/livez\",method=\"GET\",le=\"0.001\"} 0")
        );
    }
}
