//! Questions to etcd, and its answers, on their way.

use model::ownership::Ask;
use model::{Dvipa, Epoch};

use super::{Arrival, World};
use crate::etcd::{Answer, News, Question};

impl World {
    pub(super) fn answer(&mut self, from: usize, run: u64, ask: Ask, question: &Question) {
        let Some(etcd) = &mut self.etcd else { return };
        if self.rng.u8(..) < 16 {
            etcd.tell_former();
        }
        let of_former = etcd.has_former() && (!etcd.has_leader() || self.rng.bool());
        let (answer, freed) = etcd.ask(question, of_former, self.now);
        if let Some(answer) = answer {
            for delay in self.ways() {
                let news = News::Answer { ask, answer: answer.clone() };
                self.put(self.now + delay, Arrival::FromEtcd { to: from, run: Some(run), news });
            }
        }
        self.tell_freed(freed);
    }

    /// Another member of etcd leads. As a rule the former leader hears of it at once.
    pub(super) fn elect(&mut self) {
        let clock = self.members[self.rng.usize(..self.members.len())];
        let quietly = self.rng.bool();
        if let Some(etcd) = &mut self.etcd {
            etcd.elect(clock, quietly, self.now);
        }
    }

    /// There is a leader, and all know it.
    pub(super) fn heal_etcd(&mut self) {
        if self.etcd.as_ref().is_some_and(|etcd| !etcd.has_leader()) {
            self.elect();
        }
        if let Some(etcd) = &mut self.etcd {
            etcd.tell_former();
        }
    }

    pub(super) fn tell_freed(&mut self, freed: Vec<(Dvipa, Epoch)>) {
        for (dvipa, epoch) in freed {
            for to in 0..self.nodes.len() {
                for delay in self.ways() {
                    let news = News::Freed { dvipa, epoch };
                    self.put(self.now + delay, Arrival::FromEtcd { to, run: None, news });
                }
            }
        }
    }

    /// What is not answered in time has failed, for the node.
    pub(super) fn ask(&mut self, from: usize, ask: Ask, question: &Question) {
        let run = self.nodes[from].run;
        let news = News::Answer { ask, answer: Answer::Failed };
        let in_time = self.now + self.lease() / 2;
        self.put(in_time, Arrival::FromEtcd { to: from, run: Some(run), news });
        for delay in self.ways() {
            let question = question.clone();
            self.put(self.now + delay, Arrival::ToEtcd { from, run, ask, question });
        }
    }
}
