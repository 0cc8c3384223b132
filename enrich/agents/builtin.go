// SPDX-License-Identifier: Apache-2.0

package agents

// Builtin gives the dialects that Sheetbend knows. docs/agents.md says which version of each was tried.
func Builtin() []Dialect {
	return []Dialect{
		{
			// Names every call since 0.16x (CODEX_TOOL_CALL_ID); older releases name the thread only.
			Name:        "codex",
			Executables: []string{"codex", "codex.exe", "codex-x86_64-unknown-linux-musl", "codex-aarch64-unknown-linux-musl"},
			Scripts:     []string{"@openai/codex/bin/codex.js", "*bin/codex"},
			Env: Env{
				Session: []string{"CODEX_SESSION_ID", "CODEX_THREAD_ID"}, Call: []string{"CODEX_TOOL_CALL_ID"},
				Commands: []string{"CODEX_CI"}, CallsNamed: true,
			},
			Telemetry: Telemetry{
				Services: []string{"codex*"}, Session: []string{"conversation.id", "thread.id"}, Call: []string{"call_id"}, Tool: []string{"tool_name"},
				CallSpans: []string{"unified_exec.exec_command", "exec_command"},
				Events: []Event{
					{Name: "codex.conversation_starts", Kind: EventSession, Detail: []string{"approval_policy", "sandbox_policy"}},
					{
						Name: "codex.tool_decision", Kind: EventDecision, Decision: []string{"decision"}, Source: []string{"source"},
						Approved: []string{"approved", "approved_for_session", "approved_execpolicy_amendment"}, Denied: []string{"denied", "abort", "timed_out"},
					},
					{Name: "codex.tool_result", Kind: EventResult, Success: []string{"success"}},
					{Name: "codex.sandbox_outcome", Kind: EventSandbox, Decision: []string{"outcome"}, Detail: []string{"sandbox", "sandbox_type", "reason"}},
					{
						Name: "codex.network_proxy.policy_decision", Kind: EventNetwork, Decision: []string{"decision"}, Source: []string{"source"},
						Detail: []string{"host", "server.address", "protocol", "reason"}, Approved: []string{"allow", "allowed"}, Denied: []string{"deny", "denied", "block"},
					},
				},
			},
			Hook: Hook{
				Session: []string{"session_id"}, Call: []string{"tool_use_id"}, Tool: []string{"tool_name"}, Event: []string{"hook_event_name"},
				Begin: []string{"PreToolUse"}, End: []string{"PostToolUse"},
			},
			Enable: Enable{
				Args: []string{
					"-c", `otel.exporter={otlp-http={endpoint="{endpoint}/v1/logs",protocol="binary"}}`,
					"-c", `otel.trace_exporter={otlp-http={endpoint="{endpoint}/v1/traces",protocol="binary"}}`,
				},
				Present: []string{"otel."},
			},
		},
		{
			// The Agent SDK starts the same program.
			Name:        "claude-code",
			Executables: []string{"claude", "claude.exe"},
			Scripts:     []string{"@anthropic-ai/claude-code/cli.js", "@anthropic-ai/claude-agent-sdk/cli.js", "*bin/claude"},
			Env: Env{
				Session: []string{"CLAUDE_CODE_SESSION_ID"}, Traceparent: TraceparentCall, Leaders: true,
			},
			Telemetry: Telemetry{
				Services: []string{"claude-code*"}, Session: []string{"session.id", "gen_ai.conversation.id"},
				Call: []string{"gen_ai.tool.call.id", "tool_use_id"}, Tool: []string{"gen_ai.tool.name", "tool_name"},
				CallSpans: []string{"claude_code.tool.execution"},
				Events: []Event{
					{
						Name: "claude_code.tool_decision", Kind: EventDecision, Decision: []string{"decision"}, Source: []string{"source"},
						Approved: []string{"accept"}, Denied: []string{"reject"},
					},
					{
						Name: "tool_decision", Kind: EventDecision, Decision: []string{"decision"}, Source: []string{"source"},
						Approved: []string{"accept"}, Denied: []string{"reject"},
					},
					{Name: "claude_code.tool_result", Kind: EventResult, Success: []string{"success"}},
					{Name: "tool_result", Kind: EventResult, Success: []string{"success"}},
				},
			},
			Hook: Hook{
				Session: []string{"session_id"}, Call: []string{"tool_use_id", "tool_calls.tool_use_id"}, Tool: []string{"tool_name"}, Event: []string{"hook_event_name"},
				Begin: []string{"PreToolUse"}, End: []string{"PostToolUse", "PostToolUseFailure", "PermissionDenied", "PostToolBatch"},
				Env: []string{"CLAUDE_CODE_SESSION_ID"},
			},
			Enable: Enable{
				Env: map[string]string{
					"CLAUDE_CODE_ENABLE_TELEMETRY": "1", "CLAUDE_CODE_ENHANCED_TELEMETRY_BETA": "1", "CLAUDE_CODE_PROPAGATE_TRACEPARENT": "1",
					"OTEL_TRACES_EXPORTER": "otlp", "OTEL_LOGS_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "otlp",
					"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_ENDPOINT": "{endpoint}",
				},
				Present: []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"},
			},
			Note: "Claude Code does not name its tool calls: add --agent-telemetry, or sheetbend hook install claude-code, for their real ids",
		},
		{
			Name:        "gemini-cli",
			Executables: []string{"gemini"},
			Scripts:     []string{"@google/gemini-cli/dist/index.js", "@google/gemini-cli/bundle/gemini.js", "*bin/gemini"},
			Env:         Env{Leaders: true},
			Telemetry: Telemetry{
				Services: []string{"gemini-cli"}, Session: []string{"gen_ai.conversation.id", "session.id"},
				Call: []string{"gen_ai.tool.call_id", "gen_ai.tool.call.id"}, CallHasTool: true, Tool: []string{"gen_ai.tool.name", "function_name"},
				CallSpans: []string{"tool_call"},
				Events: []Event{{
					Name: "gemini_cli.tool_call", Kind: EventDecision, Decision: []string{"decision"}, Success: []string{"success"},
					Approved: []string{"accept", "auto_accept", "modify"}, Denied: []string{"reject"},
				}},
			},
			Hook: Hook{
				Session: []string{"session_id"}, Tool: []string{"tool_name"}, Event: []string{"hook_event_name"},
				Begin: []string{"BeforeTool"}, End: []string{"AfterTool"}, Env: []string{"GEMINI_SESSION_ID"},
			},
			Enable: Enable{
				Env: map[string]string{
					"GEMINI_TELEMETRY_ENABLED": "true", "GEMINI_TELEMETRY_TARGET": "local", "GEMINI_TELEMETRY_TRACES_ENABLED": "true",
					"GEMINI_TELEMETRY_OTLP_ENDPOINT": "{endpoint}", "GEMINI_TELEMETRY_OTLP_PROTOCOL": "http", "GEMINI_TELEMETRY_LOG_PROMPTS": "false",
				},
				Present: []string{"GEMINI_TELEMETRY_OTLP_ENDPOINT"},
			},
			Note: "Gemini CLI gives its commands neither a session nor a call id: their calls are inferred",
		},
		{
			Name:        "qwen-code",
			Executables: []string{"qwen"},
			Scripts:     []string{"@qwen-code/qwen-code/cli.js", "@qwen-code/qwen-code/dist/cli.js", "@qwen-code/qwen-code/dist/index.js", "*bin/qwen"},
			Env: Env{
				Session: []string{"QWEN_CODE_SESSION_ID"}, Traceparent: TraceparentCall, Leaders: true,
			},
			Telemetry: Telemetry{
				Services: []string{"qwen-code"}, Session: []string{"session.id", "gen_ai.conversation.id"},
				// tool_use_id and tool.use_id are made up by its hooks: not the model's.
				Call: []string{"gen_ai.tool.call.id", "tool.call_id", "call_id"}, Tool: []string{"gen_ai.tool.name", "function_name"},
				CallSpans: []string{"qwen-code.tool"},
				Events: []Event{{
					Name: "qwen-code.tool_call", Kind: EventDecision, Decision: []string{"decision"}, Success: []string{"success"},
					Approved: []string{"accept", "auto_accept", "modify"}, Denied: []string{"reject"},
				}},
			},
			Hook: Hook{
				Session: []string{"session_id"}, Call: []string{"tool_call_id"}, Tool: []string{"tool_name"}, Event: []string{"hook_event_name"},
				Begin: []string{"PreToolUse"}, End: []string{"PostToolUse"}, Env: []string{"QWEN_CODE_SESSION_ID"},
			},
			Enable: Enable{
				Env: map[string]string{
					"QWEN_TELEMETRY_ENABLED": "true", "QWEN_TELEMETRY_TARGET": "local",
					"QWEN_TELEMETRY_OTLP_ENDPOINT": "{endpoint}", "QWEN_TELEMETRY_OTLP_PROTOCOL": "http", "QWEN_TELEMETRY_LOG_PROMPTS": "false",
				},
				Present: []string{"QWEN_TELEMETRY_OTLP_ENDPOINT"},
				Also:    "outboundCorrelation.propagateTraceContext in ~/.qwen/settings.json puts the trace context of each call into its commands",
			},
			Note: "Qwen Code names its calls to commands only with outboundCorrelation.propagateTraceContext in ~/.qwen/settings.json and telemetry on (--agent-telemetry)",
		},
		{
			Name:        "copilot-cli",
			Executables: []string{"copilot"},
			Scripts:     []string{"@github/copilot/npm-loader.js", "@github/copilot/index.js", "*bin/copilot"},
			Env:         Env{Session: []string{"COPILOT_AGENT_SESSION_ID"}, Leaders: true},
			Telemetry: Telemetry{
				Services: []string{"github-copilot*", "copilot*"}, Session: []string{"gen_ai.conversation.id"},
				Call: []string{"gen_ai.tool.call.id"}, Tool: []string{"gen_ai.tool.name"}, CallSpans: []string{"execute_tool*"},
			},
			Hook: Hook{
				Session: []string{"sessionId"}, Tool: []string{"toolName"}, Event: []string{"hookEventName", "hook_event_name"},
				Begin: []string{"preToolUse"}, End: []string{"postToolUse"},
			},
			Enable: Enable{
				Env:     map[string]string{"COPILOT_OTEL_ENABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "{endpoint}"},
				Present: []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "COPILOT_OTEL_FILE_EXPORTER_PATH"},
			},
			Note: "Copilot CLI names the session to its commands, not the call: calls are inferred",
		},
		{
			Name:        "opencode",
			Executables: []string{"opencode", "opencode.exe", ".opencode"},
			Scripts:     []string{"opencode-ai/bin/opencode", "*bin/opencode"},
			Env:         Env{Leaders: true},
			Telemetry: Telemetry{
				Services: []string{"opencode*"}, Session: []string{"session.id", "sessionID"},
				Call: []string{"tool.call_id", "ai.toolCall.id"}, Tool: []string{"tool.name", "ai.toolCall.name"}, CallSpans: []string{"Tool.execute"},
			},
			Hook: Hook{Session: []string{"sessionID"}, Call: []string{"callID"}, Tool: []string{"tool"}, Event: []string{"event"},
				Begin: []string{"tool.execute.before"}, End: []string{"tool.execute.after"}},
			Enable: Enable{
				Env:     map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "{endpoint}"},
				Present: []string{"OTEL_EXPORTER_OTLP_ENDPOINT"},
			},
			Note: "OpenCode names no call to its commands: calls are inferred; a shell.env plugin can set a variable for each (docs/agents.md)",
		},
		{
			// After the first run a daemon runs the commands, with the environment of that first run.
			Name:        "cline",
			Executables: []string{"cline"},
			Scripts:     []string{"cline/dist/cli.mjs", "*bin/cline"},
			Env:         Env{Leaders: true},
			Telemetry:   Telemetry{Services: []string{"cline*"}},
			Hook: Hook{
				Session: []string{"sessionContext.rootSessionId", "taskId"}, Call: []string{"tool_call.id"}, Tool: []string{"tool_call.name"}, Event: []string{"hookName"},
				Begin: []string{"PreToolUse"}, End: []string{"PostToolUse"},
			},
			Note: "Cline names no call to its commands, and later runs share one daemon: calls are inferred",
		},
		{
			// Its commands stay in its own kernel session; what leads one is a login shell that it asks for its PATH.
			Name:        "goose",
			Executables: []string{"goose", "goosed"},
			Env:         Env{Session: []string{"AGENT_SESSION_ID"}, Commands: []string{"GOOSE_TERMINAL"}, CallsNamed: true},
			Telemetry: Telemetry{
				Services: []string{"goose*"}, Session: []string{"session.id", "session_id"}, Call: []string{"gen_ai.tool.call.id", "tool_call_id"}, Tool: []string{"gen_ai.tool.name", "tool_name"},
				CallSpans: []string{"execute_tool*"},
			},
			Enable: Enable{
				Env:     map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "{endpoint}"},
				Present: []string{"OTEL_EXPORTER_OTLP_ENDPOINT"},
			},
			Note: "Goose names no call to its commands: calls are inferred",
		},
		{
			Name:        "cursor-agent",
			Executables: []string{"cursor-agent"},
			Scripts:     []string{"cursor-agent/versions/*/index.js", "*bin/cursor-agent"},
			Env:         Env{Session: []string{"CURSOR_CONVERSATION_ID"}, Commands: []string{"CURSOR_AGENT"}, CallsNamed: true},
			Hook: Hook{
				// beforeShellExecution has the id of the turn only (generation_id), which several calls share.
				Session: []string{"conversation_id"}, Call: []string{"tool_use_id"}, Tool: []string{"tool_name"}, Event: []string{"hook_event_name"},
				Begin: []string{"preToolUse"}, End: []string{"postToolUse", "postToolUseFailure"},
			},
			Note: "Cursor's agent names no call to its commands: calls are inferred",
		},
		{
			Name:        "amp",
			Executables: []string{"amp"},
			Scripts:     []string{"@sourcegraph/amp/dist/main.js", "*bin/amp"},
			// AGENT_TOOL_USE_ID reaches programs that decide on permissions, not commands.
			Env:  Env{Session: []string{"AMP_CURRENT_THREAD_ID", "AGENT_THREAD_ID", "AMP_THREAD_ID"}, Call: []string{"AGENT_TOOL_USE_ID"}, Leaders: true},
			Note: "Amp names no call to its commands: calls are inferred",
		},
	}
}
