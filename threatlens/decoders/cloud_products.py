"""Audit logs of clouds in JSON, a row each."""

from __future__ import annotations

from threatlens.decoders.product import login, product
from threatlens.decoders.tables import row

_FAILED = login("failure")
_ACCEPTED = login("success")
_IDS = {"event.category": "intrusion_detection", "event.kind": "alert", "event.action": "ids_alert"}

DECODERS = (
    product(
        "cloudtrail",
        "AWS CloudTrail.",
        "eventVersion eventSource eventName",
        times="eventTime",
        constants={"event.category": "iam", "event.outcome": "success", "cloud.provider": "aws"},
        fields={
            "event.action": "eventName",
            "event.provider": "eventSource",
            "cloud.region": "awsRegion",
            "cloud.account.id": "recipientAccountId userIdentity.accountId",
            "source": "sourceIPAddress",
            "user_agent.original": "userAgent",
            "user.name": "userIdentity.userName userIdentity.sessionContext.sessionIssuer.userName userIdentity.principalId",
            "user.id": "userIdentity.arn userIdentity.principalId",
            "error.message": "errorMessage",
            "error.code": "errorCode",
            "event.id": "eventID",
        },
        cases={
            "eventName": {"consolelogin": {"event.category": "authentication", "event.action": "login"}},
            "responseElements.ConsoleLogin": {"failure": {"event.outcome": "failure"}},
            "errorCode": {"": {"event.outcome": "failure"}},
        },
        said={
            "errorMessage": [row(r"(?P<reason>.+)", "", "failure", category="")],
        },
    ),
    product(
        "aws.guardduty",
        "AWS GuardDuty findings.",
        "schemaVersion service severity type",
        times="updatedAt createdAt",
        constants=_IDS,
        fields={
            "rule.name": "type",
            "event.severity": "severity",
            "cloud.region": "region",
            "cloud.account.id": "accountId",
            "source": "service.action.networkConnectionAction.remoteIpDetails.ipAddressV4 service.action.awsApiCallAction.remoteIpDetails.ipAddressV4",
            "user.name": "resource.accessKeyDetails.userName",
            "event.reason": "title",
        },
    ),
    product(
        "kubernetes.audit",
        "Kubernetes audit log.",
        "auditID verb stage",
        times="stageTimestamp requestReceivedTimestamp",
        constants={"event.category": "configuration"},
        fields={
            "event.action": "verb",
            "user.name": "user.username",
            "source": "sourceIPs",
            "url.original": "requestURI",
            "http.response.status_code": "responseStatus.code",
            "user_agent.original": "userAgent",
            "event.id": "auditID",
            "orchestrator.namespace": "objectRef.namespace",
            "orchestrator.resource.type": "objectRef.resource",
            "orchestrator.resource.name": "objectRef.name",
        },
        cases={
            "responseStatus.code": {
                "401": {"event.outcome": "failure", "event.category": "authentication"},
                "403": {"event.outcome": "failure"},
                "200": {"event.outcome": "success"},
                "201": {"event.outcome": "success"},
            }
        },
    ),
    product(
        "gcp.audit",
        "Google Cloud audit logs.",
        "protoPayload",
        times="timestamp receiveTimestamp",
        constants={"event.category": "iam", "cloud.provider": "gcp", "event.outcome": "success"},
        fields={
            "event.action": "protoPayload.methodName",
            "event.provider": "protoPayload.serviceName",
            "user.name": "protoPayload.authenticationInfo.principalEmail",
            "source": "protoPayload.requestMetadata.callerIp",
            "user_agent.original": "protoPayload.requestMetadata.callerSuppliedUserAgent",
            "cloud.project.id": "resource.labels.project_id",
            "error.message": "protoPayload.status.message",
        },
        said={"protoPayload.status.message": [row(r"(?P<reason>.+)", "", "failure", category="")]},
    ),
    product(
        "azure.signin",
        "Microsoft Entra sign-ins.",
        "userPrincipalName createdDateTime ipAddress",
        times="createdDateTime",
        constants={"event.category": "authentication", "event.action": "login", "cloud.provider": "azure"},
        fields={
            "user.name": "userPrincipalName",
            "source": "ipAddress",
            "service.name": "appDisplayName",
            "event.reason": "status.failureReason",
        },
        cases={"status.errorCode": {"0": {"event.outcome": "success"}, "": {"event.outcome": "failure"}}},
    ),
    product(
        "azure.activity",
        "Azure activity and diagnostic logs.",
        "operationName category time",
        times="time",
        constants={"event.category": "iam", "cloud.provider": "azure"},
        fields={
            "event.action": "operationName",
            "source": "callerIpAddress properties.ipAddress properties.clientIP properties.clientIp",
            "user.name": "properties.userPrincipalName identity.claims.name identity",
            "event.provider": "category",
            "event.reason": "resultDescription",
            "http.request.method": "properties.httpMethod",
            "url.original": "properties.requestUri",
            "http.response.status_code": "properties.httpStatus properties.httpStatusCode",
        },
        cases={
            "resultType": {
                "0": {"event.outcome": "success"},
                "success": {"event.outcome": "success"},
                "succeeded": {"event.outcome": "success"},
                "failure": {"event.outcome": "failure"},
                "failed": {"event.outcome": "failure"},
            },
            "category": {"signinlogs": {"event.category": "authentication", "event.action": "login"}},
        },
    ),
    product(
        "microsoft365",
        "Microsoft 365 unified audit log.",
        "Operation Workload CreationTime",
        times="CreationTime",
        constants={"event.category": "iam", "cloud.provider": "azure"},
        fields={
            "event.action": "Operation",
            "event.provider": "Workload",
            "user.name": "UserId",
            "source": "ClientIP ClientIPAddress ActorIpAddress",
        },
        cases={
            "Operation": {"userloggedin": _ACCEPTED, "userloginfailed": _FAILED},
            "ResultStatus": {
                "succeeded": {"event.outcome": "success"},
                "success": {"event.outcome": "success"},
                "failed": {"event.outcome": "failure"},
            },
        },
    ),
    product(
        "okta",
        "Okta system log.",
        "eventType actor outcome published",
        times="published",
        constants={"event.category": "iam"},
        fields={
            "event.action": "eventType",
            "user.name": "actor.alternateId",
            "user.id": "actor.id",
            "source": "client.ipAddress",
            "user_agent.original": "client.userAgent.rawUserAgent",
            "event.reason": "outcome.reason",
        },
        cases={
            "eventType": {
                "user.session.start": {"event.category": "authentication", "event.action": "login"},
                "user.authentication.auth_via_mfa": {"event.category": "authentication", "event.action": "mfa_login"},
            },
            "outcome.result": {
                "success": {"event.outcome": "success"},
                "allow": {"event.outcome": "success"},
                "failure": {"event.outcome": "failure"},
                "deny": {"event.outcome": "failure"},
            },
        },
    ),
)
