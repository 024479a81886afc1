//! The settings of a client.

use super::cluster::{NODES_MAX, Nodes, Target};
use super::connection::Access;
use super::error::Error;
use super::executor::Executor;
use super::followers::Followers;
use super::handle::Client;
use super::pool::{Limits, Pool};
use std::sync::Arc;
use std::time::Duration;

/// The settings of a client.
#[derive(Clone, Debug)]
pub struct Builder {
    nodes: Vec<String>,
    access: Access,
    limits: Limits,
    checkout: Duration,
    deadline: Duration,
}

impl Default for Builder {
    fn default() -> Builder {
        let connect = Duration::from_millis(500);
        Builder {
            nodes: vec![],
            access: Access { user: "default".to_owned(), password: None, connect },
            limits: Limits {
                size: 16,
                idle_max: Duration::from_secs(60),
                age_max: Duration::from_secs(30 * 60),
            },
            checkout: Duration::from_millis(500),
            deadline: Duration::from_secs(5),
        }
    }
}

impl Builder {
    /// Addresses as `host:port`: all nodes, or some from which the others are found. Sessions read from these only.
    pub fn nodes(mut self, nodes: impl IntoIterator<Item = impl Into<String>>) -> Builder {
        self.nodes = nodes.into_iter().map(Into::into).collect();
        self
    }

    /// The password of every node.
    pub fn password(mut self, password: impl Into<String>) -> Builder {
        self.access.password = Some(password.into());
        self
    }

    /// Connections to the leader, and to each follower that sessions read from: 1 or more, 16 if not set.
    pub fn pool(mut self, size: usize) -> Builder {
        self.limits.size = size;
        self
    }

    /// The time for which a call may wait until a connection is free; 500 ms if not set.
    pub fn checkout(mut self, time: Duration) -> Builder {
        self.checkout = time;
        self
    }

    /// The time of a call with all its attempts; 5 s if not set.
    pub fn deadline(mut self, time: Duration) -> Builder {
        self.deadline = time;
        self
    }

    /// The time for opening one connection; 500 ms if not set.
    pub fn connect(mut self, time: Duration) -> Builder {
        self.access.connect = time;
        self
    }

    /// Connections are closed after so long without use, 60 s if not set, and at this age, 30 min if not set.
    pub fn keep(mut self, idle: Duration, age: Duration) -> Builder {
        (self.limits.idle_max, self.limits.age_max) = (idle, age);
        self
    }

    /// The client. It connects at the first call.
    pub fn build(self) -> Result<Client, Error> {
        let Builder { nodes: addrs, access, limits, checkout, deadline } = self;
        if addrs.is_empty() || addrs.len() > NODES_MAX {
            let text = format!("{} nodes; a client takes 1 to {NODES_MAX}", addrs.len());
            return Err(Error::Invalid(text));
        }
        if limits.size == 0 || checkout.is_zero() || deadline.is_zero() || access.connect.is_zero()
        {
            return Err(Error::Invalid("a pool or a time of 0".to_owned()));
        }
        if let Some(addr) = addrs.iter().find(|addr| !addr.contains(':')) {
            return Err(Error::Invalid(format!("{addr} is not host:port")));
        }
        let followers = Followers::new(addrs.iter().map(|addr| {
            (addr.clone(), Pool::new(Target::Node(addr.clone(), access.clone()), limits))
        }));
        let nodes = Arc::new(Nodes::new(addrs, access));
        let leader = Pool::new(Target::Leader(Arc::clone(&nodes)), limits);
        let executor = Executor { nodes, leader, followers, checkout, deadline };
        Ok(Client { executor: Arc::new(executor) })
    }
}

impl Client {
    /// The settings of a new client.
    pub fn builder() -> Builder {
        Builder::default()
    }
}
