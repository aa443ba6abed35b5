//! What a scrape says of the containers.

/// Who the node and the agent are: labels of every series, and of the families that say nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeLabels {
    pub machine_id: String,
    pub system_uuid: String,
    pub hostname: String,
    pub kernel_version: String,
    pub version: String,
    pub revision: String,
}
