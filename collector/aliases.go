// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/lineage"
	"github.com/sheetbend/sheetbend/collector/spans"
)

type (
	Config            = config.Config
	Selector          = config.Selector
	ContainerSelector = config.ContainerSelector
	Fold              = config.Fold
	FileID            = config.FileID
	Slice             = attribution.Slice
	Claim             = attribution.Claim
	Journal           = attribution.Journal
	Reads             = spans.Reads
	Running           = lineage.Running
	LossCount         = lineage.LossCount
)

const (
	AllAgents         = config.AllAgents
	SessionAnnotation = config.SessionAnnotation
	CallAnnotation    = config.CallAnnotation
)

var (
	DefaultNoise     = config.DefaultNoise
	DefaultSensitive = config.DefaultSensitive
	Select           = config.Select
	ChooseContainer  = config.ChooseContainer
)
