#include "memd/service/peer_messages.h"

namespace agentmem {

void CopyTo(const PeerCard& card, peer::v1::Card* out) {
  out->set_cluster(card.cluster);
  out->set_node(card.node);
  out->set_instance(card.instance);
  out->set_rack(card.rack);
  out->set_provider(card.provider);
  out->set_fabric_address(card.fabric_address);
  out->set_pool_version(card.pool_version);
  out->set_token(card.token);
  out->set_export_address(card.export_address);
  out->set_export_key(card.export_key);
  out->set_export_bytes(card.export_bytes);
  out->set_store_version(card.store_version);
  out->set_store_bytes(card.store_bytes);
  out->set_store_path(card.store_path);
}

PeerCard FromProto(const peer::v1::Card& card) {
  PeerCard out;
  out.cluster = card.cluster();
  out.node = card.node();
  out.instance = card.instance();
  out.rack = card.rack();
  out.provider = card.provider();
  out.fabric_address = card.fabric_address();
  out.pool_version = card.pool_version();
  out.token = card.token();
  out.export_address = card.export_address();
  out.export_key = card.export_key();
  out.export_bytes = card.export_bytes();
  out.store_version = card.store_version();
  out.store_bytes = card.store_bytes();
  out.store_path = card.store_path();
  return out;
}

}  // namespace agentmem
