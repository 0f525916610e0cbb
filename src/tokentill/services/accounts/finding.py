"""Finding: what does not fit is looked at by somebody, and closed."""

from uuid import UUID

from tokentill.core.companions import Audited
from tokentill.errors import FindingNotFound
from tokentill.services.context import Context
from tokentill.store import companions, findings
from tokentill.store.findings import OpenFinding


def close(context: Context, finding_id: UUID, *, actor: str) -> OpenFinding:
    """Note that somebody has looked at a finding, in the audit log, too. Closed before, it stays as it was.

    Raises: FindingNotFound.
    """
    now = context.clock()
    with context.connection() as conn:
        is_closed_now = findings.close(conn, finding_id, actor=actor, now=now)
        finding = findings.find(conn, finding_id)
        if finding is None:
            raise FindingNotFound(f"There is no finding {finding_id}.", finding_id=str(finding_id))
        if is_closed_now:
            detail = {"finding_id": str(finding_id), "kind": finding.kind, "subject": finding.subject}
            audited = Audited(id=context.new_id(), actor=actor, act="close_finding", detail=detail)
            companions.write_audit(conn, finding.user_id, audited, None, now)
    return finding
