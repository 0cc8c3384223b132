// SPDX-License-Identifier: Apache-2.0
//
// Stands for agents that cannot be installed for a test: it has no model, but starts the same processes with the
// same variables around each command. Usage: node agent.js NAME HOST:PORT, with the turns as JSON on standard input:
// a list of turns, each a list of commands that run at the same time.
const { spawn } = require("child_process")
const { randomUUID } = require("crypto")
const net = require("net")

const session = randomUUID()
let spans = 0

// known: where the shape was read. helper: what it starts that is no call. shell and variables: for each call.
const agents = {
  goose: {
    known: "github.com/block/goose, crates/goose/src/agents/platform_extensions/developer/shell.rs, at 2535336dd358",
    helper: ["bash", ["-l", "-i", "-c", "echo $PATH"], { detached: true }],
    shell: (command) => ["bash", ["-c", command]],
    variables: () => ({ AGENT_SESSION_ID: session }),
  },
  "cursor-agent": {
    known: "npm package @cursor/sdk 1.0.32, dist/esm/34.js: the shell that its local agent runs commands with",
    helper: ["bash", ["-c", "builtin export -p"], { detached: true }],
    shell: (command) => ["bash", ["-O", "extglob", "-c", 'snap=$(command cat <&3) && builtin eval -- "$snap" && { builtin eval "$1" < /dev/null; }; exit', "--", command],
      { detached: true, stdio: ["ignore", "pipe", "pipe", "pipe"] }],
    variables: () => ({ CURSOR_AGENT: "1", CURSOR_CONVERSATION_ID: session, CURSOR_REQUEST_ID: randomUUID() }),
  },
  "my-harness": {
    known: "OpenTelemetry specification, environment variables as context propagation carriers",
    helper: ["git", ["--version"], {}],
    shell: (command) => ["sh", ["-c", command]],
    variables: () => ({
      TRACEPARENT: `00-0123456789abcdef0123456789abcdef-${String(++spans).padStart(16, "0")}-01`, TRACESTATE: "", BAGGAGE: `session.id=${session}`, MY_HARNESS_SESSION: session,
    }),
  },
}

const run = (program, args, options = {}) => new Promise((done) => {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], ...options })
  child.stdio.slice(3).forEach((pipe) => pipe.end())
  child.stdout.resume()
  child.stderr.resume()
  child.on("close", done)
})

async function main([name, model]) {
  const agent = agents[name]
  if (process.argv.includes("--known")) return console.log(agent.known)
  let turns = ""
  for await (const chunk of process.stdin) turns += chunk
  const [host, port] = model.split(":")
  await new Promise((done) => net.connect(port, host).on("close", done).on("connect", function () { this.end() }))
  await run(...agent.helper)
  for (const commands of JSON.parse(turns)) {
    await Promise.all(commands.map((command) => {
      const [program, args, options = {}] = agent.shell(command)
      return run(program, args, { ...options, env: { ...process.env, ...agent.variables() } })
    }))
  }
}

main(process.argv.slice(2))
