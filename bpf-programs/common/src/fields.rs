//! Fields of kernel structures whose offsets the loader resolves from the running kernel's BTF.

macro_rules! fields {
    ($($name:ident = $structure:literal . $field:literal),* $(,)?) => {
        /// Indexes into the table of offsets.
        #[derive(Clone, Copy)]
        #[repr(usize)]
        #[expect(non_camel_case_types, reason = "constants in all but kind")]
        pub enum Field { $($name),* }
        /// Structure and field, indexed by `Field`.
        pub const FIELDS: &[(&str, &str)] = &[$(($structure, $field)),*];
    };
}

fields! {
    TASK_FLAGS = "task_struct"."flags",
    TASK_TGID = "task_struct"."tgid",
    TASK_LEADER = "task_struct"."group_leader",
    TASK_PARENT = "task_struct"."real_parent",
    TASK_START = "task_struct"."start_boottime",
    TASK_COMM = "task_struct"."comm",
    TASK_CGROUPS = "task_struct"."cgroups",
    TASK_SIGNAL = "task_struct"."signal",
    TASK_EXIT_CODE = "task_struct"."exit_code",
    SIGNAL_LIVE = "signal_struct"."live",
    SIGNAL_EXIT_CODE = "signal_struct"."group_exit_code",
    SIGNAL_OOM_MM = "signal_struct"."oom_mm",
    CSS_SET_CGROUP = "css_set"."dfl_cgrp",
    CGROUP_KN = "cgroup"."kn",
    CGROUP_ROOT = "cgroup"."root",
    KN_ID = "kernfs_node"."id",
    ROOT_HIERARCHY = "cgroup_root"."hierarchy_id",
    SK_FAMILY = "sock_common"."skc_family",
    SK_STATE = "sock_common"."skc_state",
    SK_PORT = "sock_common"."skc_num",
    SK_REMOTE_PORT = "sock_common"."skc_dport",
    SK_LOCAL4 = "sock_common"."skc_rcv_saddr",
    SK_REMOTE4 = "sock_common"."skc_daddr",
    SK_LOCAL6 = "sock_common"."skc_v6_rcv_saddr",
    SK_REMOTE6 = "sock_common"."skc_v6_daddr",
    SK_NET = "sock_common"."skc_net",
    SK_FLAGS = "sock_common"."skc_flags",
    SK_COOKIE = "sock_common"."skc_cookie",
    SK_PROTOCOL = "sock"."sk_protocol",
    SK_ERROR = "sock"."sk_err",
    NET_NS = "net"."ns",
    NS_INUM = "ns_common"."inum",
    TCP_SENT = "tcp_sock"."bytes_sent",
    TCP_RETRANS = "tcp_sock"."bytes_retrans",
    TCP_RECEIVED = "tcp_sock"."bytes_received",
    TCP_ACKED = "tcp_sock"."bytes_acked",
    TCP_NEXT = "tcp_sock"."snd_nxt",
    TCP_UNACKED = "tcp_sock"."snd_una",
    TCP_RETRANSMITS = "tcp_sock"."total_retrans",
    TCP_RTT = "tcp_sock"."srtt_us",
    SOCKET_SK = "socket"."sk",
    SK_LOCAL_PORT = "inet_sock"."inet_sport",
    FILE_MODE = "file"."f_mode",
    FILE_FLAGS = "file"."f_flags",
    FILE_INODE = "file"."f_inode",
    FILE_PATH = "file"."f_path",
    PATH_MOUNT = "path"."mnt",
    PATH_DENTRY = "path"."dentry",
    DENTRY_HASH = "dentry"."d_hash",
    HASH_PREVIOUS = "hlist_bl_node"."pprev",
    INODE_MODE = "inode"."i_mode",
    INODE_NUMBER = "inode"."i_ino",
    INODE_SUPER = "inode"."i_sb",
    SUPER_DEVICE = "super_block"."s_dev",
    SUPER_MAGIC = "super_block"."s_magic",
    SUPER_FLAGS = "super_block"."s_flags",
    MOUNT_VFS = "mount"."mnt",
    MOUNT_ID = "mount"."mnt_id",
    TASK_FILES = "task_struct"."files",
    FILES_TABLE = "files_struct"."fdt",
    TABLE_FILES = "fdtable"."fd",
    FILE_PRIVATE = "file"."private_data",
}

pub const FIELDS_LEN: usize = FIELDS.len();

/// Fields that a kernel may lack, indexed by `mptcp_field`.
pub const MPTCP_FIELDS: [(&str, &str); mptcp_field::COUNT] = [
    ("tcp_sock", "is_mptcp"),
    ("inet_connection_sock", "icsk_ulp_data"),
    ("mptcp_subflow_context", "conn"),
    ("mptcp_sock", "first"),
    ("mptcp_sock", "bytes_sent"),
    ("mptcp_sock", "bytes_received"),
];

pub mod mptcp_field {
    pub const IS_MPTCP: usize = 0;
    pub const ULP_DATA: usize = 1;
    pub const CONN: usize = 2;
    pub const FIRST: usize = 3;
    /// These two since 6.5.
    pub const SENT: usize = 4;
    pub const RECEIVED: usize = 5;
    pub const COUNT: usize = 6;
}

/// From here on, what only `open_files` reads, and behind that what only those programs read that copy what is said: a kernel
/// that lacks one of them has all the rest.
pub const FIRST_OPTIONAL: usize = Field::FILE_MODE as usize;
