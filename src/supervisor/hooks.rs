//! What the integration tests may do to an actor. Only in builds with the feature `test-hooks`.
use actix::Message;
use std::time::Duration;

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Panic;

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Block(pub Duration);

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct LoseEvent;
