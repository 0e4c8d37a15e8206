//! Other products' programs that get the packets of an interface before the agent's do.
//!
//! A packet meets the programs of tcx first, in their order, then the filters of the `clsact` queueing discipline by
//! priority. Each of them may end the packet's way through the hook.

use futures_util::TryStreamExt;
use rtnetlink::packet_route::tc::TcAttribute;

use super::interfaces::Interface;
use super::kernel;
use super::programs::TC_PRIORITY;

/// Hooks of an interface.
const DIRECTIONS: [(&str, bool); 2] = [("ingress", true), ("egress", false)];

/// What runs before the agent's programs on these interfaces, as sentences for operators, sorted.
///
/// # Errors
/// What the kernel says.
pub async fn before_ours(
    netlink: &rtnetlink::Handle,
    interfaces: &[Interface],
) -> Result<Vec<String>, rtnetlink::Error> {
    let mut found = Vec::new();
    for Interface { name, ifindex, .. } in interfaces {
        for (direction, is_ingress) in DIRECTIONS {
            let programs = kernel::tcx_programs(ifindex.0, is_ingress);
            found.extend(programs.into_iter().map(|id| {
                format!(
                    "BPF program {id} runs on {name} {direction} (tcx) before the agent's: `bpftool prog show id {id}` \
                     tells whose it is, it has to let packets go on"
                )
            }));
            let filters = netlink.traffic_filter(ifindex.0.cast_signed()).get();
            let filters = if is_ingress { filters.ingress() } else { filters.egress() };
            let mut filters = filters.execute();
            while let Some(filter) = filters.try_next().await? {
                let priority = filter.header.info >> 16;
                let kind = filter.attributes.iter().find_map(|attribute| match attribute {
                    TcAttribute::Kind(kind) => Some(kind.as_str()),
                    _ => None,
                });
                if priority != 0 && priority < TC_PRIORITY {
                    found.push(format!(
                        "a filter ({}) of priority {priority} on {name} {direction} comes before the agent's, which has \
                         {TC_PRIORITY}: `tc filter show dev {name} {direction}` shows it, give it a higher number",
                        kind.unwrap_or("of an unknown kind")
                    ));
                }
            }
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}
