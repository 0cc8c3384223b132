// SPDX-License-Identifier: Apache-2.0

package attribution

import "github.com/sheetbend/sheetbend/collector/record"

// A Process is what attribution knows of a process.
type Process struct {
	Tgid  uint32
	Start uint64  // boottime
	In    *Cgroup // where it is now
	Home  *Sandbox

	Role        role
	ambiguous   bool
	Agent       *agent
	Call        *Call
	free        bool  // counted in agent.free
	command     *Call // that its agent has started it for: counted in callLife.commands
	taint       *Taint
	Marks       openCalls
	Hook        *pendingHook // with RoleHook
	runsHook    bool         // its program is sheetbend hook, started by its agent or by a hookShell
	hookShell   bool         // its program is a shell that its agent started for a hook alone, or it is a fork of one
	helper      *helper      // that it is of; nil: none
	likeCommand bool         // it is a hook, but the agent starts the commands of calls alike
	ParentTgid  uint32       // who forked it; 0: not known
	ParentStart uint64
}

// A Cgroup is what attribution knows of a cgroup.
type Cgroup struct {
	ID        uint64
	Home      *Sandbox   // nil: outside every sandbox
	Container *Container // nil: in no container
	Marks     openCalls
}

// A Container is a container.
type Container struct {
	ID      string
	State   containerState
	Info    record.Container // with ContainerKnown
	Pending any              // what package spans keeps of it; nil: nothing
}

// containerState says what is known of a container.
type containerState uint8

const (
	ContainerWaiting    containerState = iota // nothing yet
	ContainerKnown                            // the runtime has reported
	ContainerUnresolved                       // nothing, and spans do not wait for it any more
)

// A Sandbox is what attribution knows of a sandbox.
type Sandbox struct {
	ID        string
	Agent     string
	Found     bool // by its program: it has no directory
	Fixed     bool // the session is configured
	Session   *Session
	Traces    Traces     // of what no agent does
	Container *Container // that its topmost directory is, or lies in
	Names     any        // what package spans knows of names in it; nil: nothing
	Pending   any        // what package spans keeps of what is done in it; nil: nothing

	Agents       []*agent // live
	MarkerAgents []*agent // that name calls in it by markers
	ended        int      // calls that are kept
}
