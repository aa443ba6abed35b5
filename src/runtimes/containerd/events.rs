//! What containerd tells of its own accord.
use super::{MAX_ANSWER_BYTES, failed};
use crate::runtimes::{Change, RuntimeError};
use containerd_client::{
    events::{ContainerCreate, ContainerDelete, ContainerUpdate, TaskStart},
    services::v1::{SubscribeRequest, events_client::EventsClient},
    tonic::{Response, Status, Streaming, transport::Channel},
    types::Envelope,
};
use futures_util::future::BoxFuture;

const CREATE: &str = "/containers/create";
const UPDATE: &str = "/containers/update";
const DELETE: &str = "/containers/delete";
const START: &str = "/tasks/start";

/// Waiting can be given up at any point and begun again.
pub(super) enum Events {
    /// The daemon begins its answer with the first event only.
    Asked(Asked),
    Open(Box<Streaming<Envelope>>),
}

pub(super) type Asked = BoxFuture<'static, Result<Streaming<Envelope>, Status>>;

/// Of all namespaces. Nothing is sent before it is polled.
pub(super) fn ask(channel: Channel) -> Asked {
    let mut client = EventsClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
    let filters = [CREATE, UPDATE, DELETE, START].map(|topic| format!("topic==\"{topic}\""));
    let request = SubscribeRequest {
        filters: filters.to_vec(),
    };
    Box::pin(async move { client.subscribe(request).await.map(Response::into_inner) })
}

impl Events {
    pub(super) async fn next(&mut self) -> Result<Change, RuntimeError> {
        const OP: &str = "events.subscribe";
        loop {
            let stream = match self {
                Self::Open(stream) => stream,
                Self::Asked(asked) => {
                    let stream = asked.await.map_err(|status| failed(OP, status))?;
                    *self = Self::Open(Box::new(stream));
                    continue;
                }
            };
            let envelope = stream.message().await.map_err(|status| failed(OP, status))?;
            let envelope = envelope.ok_or_else(|| RuntimeError::Broken {
                op: OP,
                source: "the daemon has ended the stream".into(),
            })?;
            if let Some(change) = change(envelope) {
                return Ok(change);
            }
        }
    }
}

/// Total. `None`: nothing that anybody waits for.
pub fn change(envelope: Envelope) -> Option<Change> {
    let mut event = envelope.event?;
    // Protobuf wants a slash there, containerd does without.
    if !event.type_url.contains('/') {
        event.type_url.insert(0, '/');
    }
    let id = match envelope.topic.as_str() {
        CREATE => event.to_msg::<ContainerCreate>().ok()?.id,
        UPDATE => event.to_msg::<ContainerUpdate>().ok()?.id,
        START => event.to_msg::<TaskStart>().ok()?.container_id,
        DELETE => return Some(Change::Gone(event.to_msg::<ContainerDelete>().ok()?.id.into())),
        _ => return None,
    };
    Some(Change::Changed(id.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use containerd_client::to_any;

    #[test]
    fn of_each_topic() {
        let id = "c1".to_owned();
        let create = ContainerCreate {
            id: id.clone(),
            ..Default::default()
        };
        let start = TaskStart {
            container_id: id.clone(),
            pid: 7,
        };
        let delete = ContainerDelete { id };
        let told = |topic: &str, event| {
            change(Envelope {
                topic: topic.to_owned(),
                event: Some(event),
                ..Default::default()
            })
        };
        let changed = Some(Change::Changed("c1".into()));
        assert_eq!(told(CREATE, to_any(&create)), changed);
        assert_eq!(told(START, to_any(&start)), changed);
        assert_eq!(told(DELETE, to_any(&delete)), Some(Change::Gone("c1".into())));
        assert_eq!(told("/tasks/exit", to_any(&start)), None);
        assert_eq!(told(CREATE, to_any(&delete)), None, "of another type than its topic");
        let mut broken = to_any(&create);
        broken.value = vec![0xff; 9];
        assert_eq!(told(CREATE, broken), None);
        let mut latin1 = to_any(&delete);
        latin1.value = vec![0x0a, 1, 0xe9];
        assert_eq!(told(DELETE, latin1), None);
        assert_eq!(change(Envelope::default()), None);
    }
}
