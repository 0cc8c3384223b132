// SPDX-License-Identifier: Apache-2.0

package span

import semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

// Schema is the schema_url of resources and of the instrumentation scope: that of the conventions that the names below
// are taken from.
const Schema = semconv.SchemaURL

// The attribute keys of the span contract. docs/spans.md says for each one its type,
// unit and when it is there; a test holds that page and this list together.
const (
	// On every span.
	KeyContract         = "sheetbend.contract"
	KeySeq              = "sheetbend.seq"
	KeyRun              = "sheetbend.run"
	KeyEvent            = "sheetbend.event"
	KeySandboxID        = "sheetbend.sandbox.id"
	KeyInstance         = "sheetbend.agent.instance"
	KeySessionID        = string(semconv.SessionIDKey)
	KeyAgentName        = "sheetbend.agent.name"
	KeyAttribution      = "sheetbend.attribution"
	KeyPID              = string(semconv.ProcessPIDKey)
	KeyCreationTime     = string(semconv.ProcessCreationTimeKey)
	KeyExecutablePath   = string(semconv.ProcessExecutablePathKey)
	KeyExecutableName   = string(semconv.ProcessExecutableNameKey)
	KeyParentExecutable = "sheetbend.process.parent.executable"
	KeyCgroup           = string(semconv.ProcessLinuxCgroupKey)
	KeyKnown            = "sheetbend.process.known"

	// On every span of a nested agent, or of a call within a call.
	KeyParentSession = "sheetbend.parent.session"
	KeyParentCall    = "sheetbend.parent.call"
	KeyRootSession   = "sheetbend.root.session"
	KeyRootCall      = "sheetbend.root.call"

	// On what a call has left running does after its end, and after a reach into the process or its agent.
	KeyStartedBy   = "sheetbend.started_by"
	KeyTainted     = "sheetbend.tainted"
	KeyTaintedCall = "sheetbend.tainted.call"
	KeyTaintedPID  = "sheetbend.tainted.pid"

	// On every span of a call.
	KeyCallID      = "gen_ai.tool.call.id"
	KeyCallIDLevel = "sheetbend.call.id.level"
	KeyCallOrigin  = "sheetbend.call.origin"
	KeyToolName    = "sheetbend.tool.name"
	KeyCallContext = "sheetbend.call.context"
	KeyMarkedBy    = "sheetbend.marked_by"
	KeyCallRoot    = "sheetbend.call.root"
	KeyCallBegan   = "sheetbend.call.began"
	KeyMCPServer   = "sheetbend.mcp.server"
	KeyDeclared    = "sheetbend.declared"

	// On any span, when it is so.
	KeyUnknownProcess = "sheetbend.process.unknown"
	KeyUTF8Repaired   = "sheetbend.utf8.repaired"
	KeyPartial        = "sheetbend.partial"
	KeyStandIn        = "sheetbend.stand_in"
	KeyNoticeOf       = "sheetbend.notice.of"
	KeyNoticed        = "sheetbend.noticed"
	KeyErrorType      = string(semconv.ErrorTypeKey)
	KeySensitive      = "sheetbend.sensitive"
	KeyOutcome        = "sheetbend.outcome"
	KeyFileWrite      = "sheetbend.file.write"

	KeyContainerUnresolved = "sheetbend.container.unresolved"

	// process.exec, and process.exit where it carries the end.
	KeyCommandArgs         = string(semconv.ProcessCommandArgsKey)
	KeyCommandLine         = string(semconv.ProcessCommandLineKey)
	KeyArgsCount           = string(semconv.ProcessArgsCountKey)
	KeyArgsTruncated       = "sheetbend.args.truncated"
	KeyArgsBytes           = "sheetbend.args.bytes"
	KeyArgsHash            = "sheetbend.args.sha256"
	KeyArgsMasked          = "sheetbend.args.masked"
	KeyWorkingDirectory    = string(semconv.ProcessWorkingDirectoryKey)
	KeyParentPID           = string(semconv.ProcessParentPIDKey)
	KeyVPID                = string(semconv.ProcessVpidKey)
	KeyUserID              = string(semconv.ProcessUserIDKey)
	KeyRealUserID          = string(semconv.ProcessRealUserIDKey)
	KeyGroupID             = "sheetbend.process.group.id"
	KeySearch              = "sheetbend.process.search"
	KeyRequestedExecutable = "sheetbend.process.requested"
	KeyScript              = "sheetbend.process.script"
	KeyFileless            = "sheetbend.process.fileless"
	KeyPrivilegedExec      = "sheetbend.process.privileged_exec"
	KeyPreexisting         = "sheetbend.process.preexisting"
	KeyReplaced            = "sheetbend.process.replaced"
	KeyCountPartial        = "sheetbend.count.partial"
	KeyNoiseOpens          = "sheetbend.noise.opens"
	KeyNoiseConnects       = "sheetbend.noise.connects"
	KeyMissingOpens        = "sheetbend.missing.opens"
	KeyExitCode            = string(semconv.ProcessExitCodeKey)
	KeyExitSignal          = "sheetbend.process.exit.signal"
	KeyCoreDumped          = "sheetbend.process.exit.core_dumped"
	KeyExitUnknown         = "sheetbend.process.exit.unknown"
	KeyExitInherited       = "sheetbend.exit.inherited"
	KeyCPUTime             = "sheetbend.process.cpu_ns"
	KeyUserTime            = "sheetbend.process.cpu.user_ns"
	KeySystemTime          = "sheetbend.process.cpu.system_ns"
	KeyPeakMemory          = "sheetbend.process.memory.peak_bytes"
	KeyOOMKilled           = "sheetbend.process.oom_killed"
	KeyWorker              = "sheetbend.process.worker"
	KeyWorkers             = "sheetbend.process.workers"
	KeyWorkersFailed       = "sheetbend.process.workers.failed"
	KeyExecsMissing        = "sheetbend.process.execs.missing"

	KeyClaimContradicted = "sheetbend.claim.contradicted"
	KeyClaimSession      = "sheetbend.claim.session"
	KeyClaimCall         = "sheetbend.claim.call"
	KeyClaimTraceparent  = "sheetbend.claim.traceparent"

	// execute_tool, tool.end, tool.telemetry.
	KeyOperationName       = "gen_ai.operation.name"
	KeyConversationID      = "gen_ai.conversation.id"
	KeyGenAIAgentName      = "gen_ai.agent.name"
	KeyGenAIToolName       = "gen_ai.tool.name"
	KeyApproval            = "sheetbend.approval"
	KeyApprovalSource      = "sheetbend.approval.source"
	KeyApprovalViolated    = "sheetbend.approval.violated"
	KeyToolResult          = "sheetbend.tool.result"
	KeyCallTitle           = "sheetbend.call.title"
	KeyTelemetryKind       = "sheetbend.telemetry.kind"
	KeyTelemetryWord       = "sheetbend.telemetry.decision"
	KeyTelemetryUnverified = "sheetbend.telemetry.unverified"
	KeyTelemetrySource     = "sheetbend.telemetry.source"
	KeyTelemetryDetail     = "sheetbend.telemetry.detail"

	// session.call, session.end.
	KeyCallExitCode   = "sheetbend.call.exit_code"
	KeyCallExitSignal = "sheetbend.call.exit_signal"
	KeyCallLeft       = "sheetbend.call.left"
	KeyCallOOM        = "sheetbend.call.oom_killed"
	KeyLateReports    = "sheetbend.session.late"

	// The account of a call, an agent or a sandbox: session.call, session, session.end, sandbox.end.
	KeyCallSummary    = "sheetbend.call.summary"
	KeySessionSummary = "sheetbend.session.summary"
	KeyPrograms       = "sheetbend.programs"
	KeyProgramsFailed = "sheetbend.programs.failed"
	KeyFilesRead      = "sheetbend.files.read"
	KeyFilesRefused   = "sheetbend.files.refused"
	KeySecrets        = "sheetbend.files.sensitive"
	KeySecretNames    = "sheetbend.files.sensitive.names"
	KeyOutsideCount   = "sheetbend.files.outside"
	KeyOutsideNames   = "sheetbend.files.outside.names"
	KeyHosts          = "sheetbend.hosts"
	KeyHostNames      = "sheetbend.hosts.names"
	KeyHostBytes      = "sheetbend.hosts.bytes"
	KeySumSent        = "sheetbend.bytes.out"
	KeySumReceived    = "sheetbend.bytes.in"
	KeySumCPU         = "sheetbend.cpu_ns"
	KeySumMemory      = "sheetbend.memory.peak_bytes"
	KeyLeftPrograms   = "sheetbend.call.left.programs"
	KeyLeftListens    = "sheetbend.call.left.listens"
	KeyNotables       = "sheetbend.notable"
	KeyNotableCounts  = "sheetbend.notable.counts"
	KeyNotableLines   = "sheetbend.notable.lines"

	// On what is notable.
	KeyNotableEvent    = "sheetbend.notable.event"
	KeyNotableSeverity = "sheetbend.notable.severity"

	// session, session.end.
	KeyWorkspace   = "sheetbend.workspace"
	KeyCalls       = "sheetbend.session.calls"
	KeyCallsFailed = "sheetbend.session.calls.failed"
	KeyCallsDenied = "sheetbend.session.calls.denied"

	// On what changes a file, and on net.connect.
	KeyOutside        = "sheetbend.file.outside"
	KeyNewDestination = "sheetbend.network.new"

	// file.open.
	KeyFilePath           = string(semconv.FilePathKey)
	KeyFileInode          = string(semconv.FileInodeKey)
	KeyFileAccess         = "sheetbend.file.access"
	KeyFileRequested      = "sheetbend.file.requested"
	KeyFileNameFromUser   = "sheetbend.file.requested.from_user"
	KeyFileNameMissing    = "sheetbend.file.requested.missing"
	KeyFileNameTruncated  = "sheetbend.file.requested.truncated"
	KeyFileSubmitted      = "sheetbend.file.submitted"
	KeyFilePathUnresolved = "sheetbend.file.path.unresolved"
	KeyFilePathTruncated  = "sheetbend.file.path.truncated"
	KeyFilePathOutside    = "sheetbend.file.path.outside_root"
	KeyFileDeleted        = "sheetbend.file.deleted"
	KeyCount              = "sheetbend.count"
	KeyLast               = "sheetbend.last"
	KeyFolded             = "sheetbend.folded"
	KeyFoldedNames        = "sheetbend.folded.names"
	KeyFoldedPrograms     = "sheetbend.folded.programs"

	// file.change, besides those of file.open.
	KeyFileOperation = "sheetbend.file.operation"
	KeyFileOldPath   = "sheetbend.file.path.old"
	KeyFileReplaced  = "sheetbend.file.replaced.inode"
	KeyFileDirectory = "sheetbend.file.directory"

	// file.change by other operations than renames.
	KeyFileMode         = string(semconv.FileModeKey)
	KeyFileModeBefore   = "sheetbend.file.mode.before"
	KeyFileOwner        = string(semconv.FileOwnerIDKey)
	KeyFileOwnerBefore  = "sheetbend.file.owner.before"
	KeyFileGroup        = string(semconv.FileGroupIDKey)
	KeyFileGroupBefore  = "sheetbend.file.group.before"
	KeyFileSize         = string(semconv.FileSizeKey)
	KeyFileSizeBefore   = "sheetbend.file.size.before"
	KeyFileLinkTarget   = string(semconv.FileSymbolicLinkTargetPathKey)
	KeyFileLinks        = "sheetbend.file.links"
	KeyFileType         = "sheetbend.file.type"
	KeyFileDevice       = "sheetbend.file.device"
	KeyFileAttribute    = "sheetbend.file.attribute"
	KeyFileByDescriptor = "sheetbend.file.by_descriptor"
	KeyFileNotSure      = "sheetbend.file.not_sure"
	KeyMountSource      = "sheetbend.mount.source"
	KeyMountType        = "sheetbend.mount.type"
	KeyMountFlags       = "sheetbend.mount.flags"

	// What was changed in the end: session.call, session, session.end, sandbox.end, process.exec, process.exit.
	KeyFilesCreated         = "sheetbend.files.created"
	KeyFilesCreatedNames    = "sheetbend.files.created.names"
	KeyFilesModified        = "sheetbend.files.modified"
	KeyFilesModifiedNames   = "sheetbend.files.modified.names"
	KeyFilesOpened          = "sheetbend.files.opened_for_writing"
	KeyFilesOpenedNames     = "sheetbend.files.opened_for_writing.names"
	KeyFilesReplaced        = "sheetbend.files.replaced"
	KeyFilesReplacedNames   = "sheetbend.files.replaced.names"
	KeyFilesDeleted         = "sheetbend.files.deleted"
	KeyFilesDeletedNames    = "sheetbend.files.deleted.names"
	KeyFilesRenamed         = "sheetbend.files.renamed"
	KeyFilesRenamedNames    = "sheetbend.files.renamed.names"
	KeyFilesRenamedFrom     = "sheetbend.files.renamed.from"
	KeyFilesLinked          = "sheetbend.files.linked"
	KeyFilesLinkedNames     = "sheetbend.files.linked.names"
	KeyFilesMode            = "sheetbend.files.mode"
	KeyFilesModeNames       = "sheetbend.files.mode.names"
	KeyFilesOwner           = "sheetbend.files.owner"
	KeyFilesOwnerNames      = "sheetbend.files.owner.names"
	KeyFilesAttributes      = "sheetbend.files.attributes"
	KeyFilesAttributesNames = "sheetbend.files.attributes.names"
	KeyFilesTemporary       = "sheetbend.files.temporary"
	KeyFilesMore            = "sheetbend.files.more"
	KeyFilesUnsure          = "sheetbend.files.unsure"
	KeyFilesByName          = "sheetbend.files.by_name"

	// net.connect.
	KeyPeerAddress   = string(semconv.NetworkPeerAddressKey)
	KeyPeerPort      = string(semconv.NetworkPeerPortKey)
	KeyTransport     = string(semconv.NetworkTransportKey)
	KeyNetworkType   = string(semconv.NetworkTypeKey)
	KeyNetworkOp     = "sheetbend.network.operation"
	KeyPeerRequested = "sheetbend.network.peer.requested"
	KeyPeerFromUser  = "sheetbend.network.peer.from_user"
	KeyPeerSubmitted = "sheetbend.network.submitted"
	KeySourceRoute   = "sheetbend.network.source_route"

	// net.connect, of what has an IP address.
	KeyServerAddress   = string(semconv.ServerAddressKey)
	KeyServerPort      = string(semconv.ServerPortKey)
	KeyPeerName        = "service.peer.name"
	KeyPeerService     = "peer.service"
	KeyServerSource    = "sheetbend.server.name.source"
	KeyServerClaimed   = "sheetbend.server.name.claimed"
	KeyServerDisagrees = "sheetbend.server.name.disagrees"

	// dns.lookup.
	KeyDNSName    = string(semconv.DNSQuestionNameKey)
	KeyDNSAnswers = string(semconv.DNSAnswersKey)
	KeyDNSType    = "sheetbend.dns.question.type"
	KeyDNSCode    = "sheetbend.dns.response.code"
	KeyDNSClaimed = "sheetbend.dns.claimed"

	// net.listen, net.accept, net.close, besides those of net.connect.
	KeyLocalAddress  = string(semconv.NetworkLocalAddressKey)
	KeyLocalPort     = string(semconv.NetworkLocalPortKey)
	KeyBytesSent     = "sheetbend.network.bytes.sent"
	KeyBytesReceived = "sheetbend.network.bytes.received"
	KeyCloseReason   = "sheetbend.network.close.reason"

	// net.socket.
	KeySocketFamily   = "sheetbend.socket.family"
	KeySocketType     = "sheetbend.socket.type"
	KeySocketProtocol = "sheetbend.socket.protocol"

	// process.namespace.
	KeyNamespaceOp    = "sheetbend.namespace.operation"
	KeyNamespaceTypes = "sheetbend.namespace.types"

	// process.access.
	KeyAccessOp      = "sheetbend.access.operation"
	KeyAccessPID     = "sheetbend.access.target.pid"
	KeyAccessExe     = "sheetbend.access.target.executable"
	KeyAccessOutside = "sheetbend.access.target.outside"
	KeyAccessSignal  = "sheetbend.access.signal"

	// cgroup.escape.
	KeyCgroupFrom = "sheetbend.cgroup.from"
	KeyCgroupTo   = "sheetbend.cgroup.to"
	KeyMoverPID   = "sheetbend.cgroup.mover.pid"

	// sandbox.limit.
	KeyLimit = "sheetbend.limit"

	// sensor.loss.
	KeyLost      = "sheetbend.lost"
	KeyLostCause = "sheetbend.lost.cause"
	KeyLostKind  = "sheetbend.lost.kind"

	// On every link.
	KeyLink = "sheetbend.link"

	// Resource.
	KeyServiceName      = string(semconv.ServiceNameKey)
	KeyContainerID      = string(semconv.ContainerIDKey)
	KeyContainerName    = string(semconv.ContainerNameKey)
	KeyContainerImage   = string(semconv.ContainerImageNameKey)
	KeyContainerTags    = string(semconv.ContainerImageTagsKey)
	KeyContainerRuntime = string(semconv.ContainerRuntimeNameKey)
	KeyPodName          = string(semconv.K8SPodNameKey)
	KeyPodUID           = string(semconv.K8SPodUIDKey)
	KeyNamespace        = string(semconv.K8SNamespaceNameKey)
	KeyPodContainer     = string(semconv.K8SContainerNameKey)
)
