"""A device with AWS's SDK, which executes a job and applies a configuration.

The Python environment of ``make peers`` runs this program. The program prints one line of JSON with what it received.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import concurrent.futures
import json
import sys
from collections.abc import Callable
from typing import Any

from awscrt import io, mqtt, mqtt_request_response
from awsiot import ServiceStreamOptions, iotjobs, iotshadow

WAIT = 60
host, port, thing, password, authority = sys.argv[1:]

tls = io.TlsContextOptions()
tls.override_default_trust_store_from_path(None, authority)
connection = mqtt.Connection(
    client=mqtt.Client(io.ClientBootstrap.get_or_create_static_default(), io.ClientTlsContext(tls)),
    host_name=host,
    port=int(port),
    client_id=thing,
    username=thing,
    password=password,
    clean_session=True,
    disable_metrics=True,  # otherwise the SDK appends its own name to the user name
)
connection.connect().result(WAIT)
options = mqtt_request_response.ClientOptions(
    max_request_response_subscriptions=4, max_streaming_subscriptions=4, operation_timeout_in_seconds=WAIT
)
jobs = iotjobs.IotJobsClientV2(connection, options)
shadow = iotshadow.IotShadowClientV2(connection, options)


def stream(create: Callable[..., Any], request: object) -> tuple[Any, concurrent.futures.Future[Any]]:
    """Open a stream, and return the future of its first event."""
    first: concurrent.futures.Future[Any] = concurrent.futures.Future()
    opened: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def take(event: object) -> None:
        if not first.done():
            first.set_result(event)

    def status(event: object) -> None:
        if not opened.done():
            opened.set_result(event)

    operation = create(request, ServiceStreamOptions(take, status))
    operation.open()
    opened.result(WAIT)
    return operation, first


notices, notice = stream(
    jobs.create_next_job_execution_changed_stream, iotjobs.NextJobExecutionChangedSubscriptionRequest(thing_name=thing)
)
deltas, delta = stream(
    shadow.create_shadow_delta_updated_stream, iotshadow.ShadowDeltaUpdatedSubscriptionRequest(thing_name=thing)
)
told = notice.result(WAIT)
begun = jobs.start_next_pending_job_execution(iotjobs.StartNextPendingJobExecutionRequest(thing_name=thing)).result(
    WAIT
)
execution = begun.execution
listed = jobs.get_pending_job_executions(iotjobs.GetPendingJobExecutionsRequest(thing_name=thing)).result(WAIT)
jobs.update_job_execution(
    iotjobs.UpdateJobExecutionRequest(
        thing_name=thing,
        job_id=execution.job_id,
        status=iotjobs.JobStatus.SUCCEEDED,
        expected_version=execution.version_number,
        status_details={"sha256": execution.job_document["sha256"]},
    )
).result(WAIT)
described = jobs.describe_job_execution(iotjobs.DescribeJobExecutionRequest(thing_name=thing, job_id="1"))
refusal = described.exception(WAIT).modeled_error.code

found = shadow.get_shadow(iotshadow.GetShadowRequest(thing_name=thing)).result(WAIT)
wanted = found.state.delta["configuration"]
product, configuration = next(iter(wanted.items()))
updated = shadow.update_shadow(
    iotshadow.UpdateShadowRequest(
        thing_name=thing,
        version=found.version,
        state=iotshadow.ShadowState(reported={"configuration": {product: {"sha256": configuration["sha256"]}}}),
    )
).result(WAIT)
result = {
    "told": told.execution.job_id,
    "job": execution.job_id,
    "status": execution.status,
    "document": execution.job_document,
    "inProgress": [one.job_id for one in listed.in_progress_jobs],
    "refusal": refusal,
    "configuration": configuration,
    "version": updated.version - found.version,
}
sys.stdout.write(json.dumps(result))
connection.disconnect().result(WAIT)
