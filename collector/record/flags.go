// SPDX-License-Identifier: Apache-2.0

package record

// Flags of TypeExec.
const (
	ExecSecure        = 1
	ExecUnlinked      = 2
	ExecMemfd         = 4
	ExecExeTruncated  = 8
	ExecCwdTruncated  = 16
	ExecCwdDeleted    = 32
	ExecEnvTruncated  = 64
	ExecArgsMissing   = 128
	ExecExeOutside    = 256
	ExecCwdOutside    = 512
	ExecSessionLeader = 1024
	ExecFound         = 2048
	ExecForeignMounts = 4096
	ExecForeignRoot   = 8192
	ExecExeSet        = 16384
)

// Flags of TypeOpen.
const (
	OpenUnlinked      = 1
	OpenPseudo        = 2
	OpenTruncated     = 4
	OpenOutside       = 8
	OpenCreated       = 16
	OpenNameFromUser  = 32
	OpenNameTruncated = 64
	OpenBase          = 128
	OpenNameMissing   = 256
	OpenOnProc        = 512
	OpenSubmitted     = 1024
	OpenForeign       = 2048
)

// Flags of TypeUnix.
const (
	UnixAbstract     = 1
	UnixNameFromUser = 2
	UnixTruncated    = 4
	UnixOutside      = 8
	UnixUnlinked     = 16
	UnixSubmitted    = 32
	UnixNotSure      = 64
)

// Flags of TypeConnect.
const (
	ConnectSourceRoute = 1
	ConnectToAny       = 2 // the call was given the address of all zeros
)

// Flags of TypeConnectEnd.
const (
	ConnectEndDatagram = 1 // of the thread's last ConnectSendmsg with this cookie
)

// Values of Connect.Op.
const (
	ConnectCall    = 1
	ConnectSendmsg = 2
)

// Values of Socket.Op.
const (
	SocketMake    = 1
	SocketConnect = 2
)

// SocketAddressFromUser is the flag of TypeSocket.
const SocketAddressFromUser = 1

// Values of Namespace.Op.
const (
	NamespaceUnshare = 1
	NamespaceSetns   = 2
	NamespaceClone   = 3
)

// Values of Access.Op.
const (
	AccessOther  = 0
	AccessAttach = 1
	AccessSeize  = 2
	AccessRead   = 3
	AccessWrite  = 4
	AccessGetfd  = 5
	AccessProc   = 6
	AccessSignal = 7
)

// Flags of TypeAccess.
const (
	AccessOutside      = 1
	AccessExeTruncated = 2
	AccessExeOutside   = 4
	AccessExePseudo    = 8
	AccessExeUnlinked  = 16
	// AccessTargetUnknown: all of the target's fields are 0.
	AccessTargetUnknown = 32
)

// Values of Change.Op.
const (
	ChangeRename      = 1
	ChangeUnlink      = 2
	ChangeRmdir       = 3
	ChangeMkdir       = 4
	ChangeMknod       = 5
	ChangeLink        = 6
	ChangeSymlink     = 7
	ChangeTruncate    = 8
	ChangeChmod       = 9
	ChangeChown       = 10
	ChangeSetxattr    = 11
	ChangeRemovexattr = 12
	ChangeUtimes      = 13
	ChangeMount       = 14
	ChangeUmount      = 15
	ChangeMoveMount   = 16
	ChangePivotRoot   = 17
	ChangeChroot      = 18
)

// Flags of TypeChange: of the old name, the same of the new one shifted by ChangeNewShift, and of the whole.
const (
	ChangeBase          = 1
	ChangeTruncated     = 2
	ChangeOutside       = 4
	ChangeNameMissing   = 8
	ChangeNameTruncated = 16

	ChangeNewShift = 5

	ChangeNamesFromUser = 1024
	ChangeDirectory     = 2048
	ChangeSubmitted     = 4096
	ChangeOpenFile      = 8192
	ChangeUnlinked      = 16384
	ChangeNotSure       = 32768
)
