"""Uses the client that openapi-python-client generated from `/v1/openapi.json`: use.py URL, with its package `generated` on PYTHONPATH.

Prints what it saw as one line of JSON. The client refuses what the contract does not name: an answer's field outside its enum raises.
"""
import json
import sys

from generated import Client
from generated.api.consume import get_history, get_instance, list_events, list_instances, list_services, search_instances
from generated.api.operate import cluster, set_override, delete_override
from generated.api.provide import batch, deregister, drain, heartbeat, register
from generated.models import Batch, Check, Events, Heartbeat, Instances, Op, Problem, Registered, Registration, SetOverride

client = Client(base_url=sys.argv[1])
check = Check.from_dict({"kind": "tcp", "interval": "10s"})
body = Registration(address="2001:DB8::1", port=8080, weight=7, check=check)
registered = register.sync("user", "u1", client=client, body=body)
assert isinstance(registered, Registered), registered
renewed = heartbeat.sync("user", "u1", client=client, body=Heartbeat(digest=registered.digest))
ops = [Op.from_dict({"op": "register", "service": "user", "id": f"b{n}", "address": "10.0.0.7", "port": 80 + n}) for n in range(2)]
results = batch.sync(client=client, body=Batch(ops=[*ops, Op.from_dict({"op": "deregister", "service": "user", "id": "b1"})])).results
listed = list_instances.sync("user", client=client)
assert isinstance(listed, Instances), listed
found = search_instances.sync(client=client, address="2001:db8:0::1")
detail = get_instance.sync("user", "u1", client=client)
override = SetOverride.from_dict({"service": "user", "status": "draining", "reason": "a test"})
overridden = set_override.sync("deploy-42", client=client, body=override)
delete_override.sync_detailed("deploy-42", client=client)
refused = register.sync("user", "u2", client=client, body=Registration(address="0.0.0.0", port=1))
assert isinstance(refused, Problem), refused
drained = drain.sync("user", "b0", client=client, wait=True, deadline="2s")
gone = deregister.sync_detailed("user", "u1", client=client)
events = list_events.sync(client=client, service="user")
history = get_history.sync("user", "u1", client=client)
assert isinstance(events, Events) and isinstance(history, Events), (events, history)
print(json.dumps({
    "address": registered.instance.address,
    "renewed": str(renewed.status),
    "digests": [len(result.digest) if result.digest else 0 for result in results],
    "statuses": [result.status for result in results],
    "listed": sorted(instance.id for instance in listed.instances),
    "found": [instance.id for instance in found.instances],
    "cause": str(detail.cause),
    "override": str(overridden.status),
    "refused": str(refused.code),
    "delivered": drained.delivered,
    "gone": int(gone.status_code),
    "history": [str(event.cause) for event in history.events],
    "services": [service.service for service in list_services.sync(client=client).services],
    "bus": str(cluster.sync(client=client).bus),
}))
