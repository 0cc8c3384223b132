// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/lineage"
)

// What users of a Collector need of the packages below it.
type (
	// Config is all that spans depend on besides the records.
	Config = config.Config
	// Selector chooses sandboxes.
	Selector = config.Selector
	// ContainerSelector chooses containers by what their runtime reports.
	ContainerSelector = config.ContainerSelector
	// Fold says when reads of single files become one span for their directory.
	Fold = config.Fold
	// FileID names a file by device and inode.
	FileID = config.FileID
	// Running is a process that has not been seen to end.
	Running = lineage.Running
	// LossCount is how many records were lost, of a kind for a cause, or in a sandbox.
	LossCount = lineage.LossCount

	// Slice says where a trace goes on; a Restart sets it.
	Slice = attribution.Slice
	// Claim says which agent has had which session.
	Claim = attribution.Claim
	// Reach says who has reached into a process or an agent.
	Reach = attribution.Reach
	// Journal is told what a later process has to know besides the records.
	Journal = attribution.Journal
)

// Names that selectors and pods use.
const (
	AllAgents         = config.AllAgents
	SessionAnnotation = config.SessionAnnotation
	CallAnnotation    = config.CallAnnotation

	NamesContract = config.NamesContract
	NamesVerbs    = config.NamesVerbs
	NamesReadable = config.NamesReadable
)

// Functions of the configuration.
var (
	// DefaultNoise and DefaultSensitive give the lists of patterns that hold where none are configured.
	DefaultNoise = config.DefaultNoise
	// DefaultSensitive is like DefaultNoise.
	DefaultSensitive = config.DefaultSensitive
	// DefaultWorkspaceIgnore and DefaultWorkspaceNever are like DefaultNoise.
	DefaultWorkspaceIgnore = config.DefaultWorkspaceIgnore
	// DefaultWorkspaceNever is like DefaultNoise.
	DefaultWorkspaceNever = config.DefaultWorkspaceNever
	// Select finds the sandbox that a cgroup path lies in.
	Select = config.Select
	// ChooseContainer gives the first selector that chooses a container.
	ChooseContainer = config.ChooseContainer
)
