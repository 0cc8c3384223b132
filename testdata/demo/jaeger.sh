#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Sends the session of `make demo` to a Jaeger, and prints where to look at it: to the one that JAEGER names by the URL of
# its web page (and JAEGER_OTLP by that of its OTLP/gRPC), else to an image that podman has, else to one that is built
# from source, which has no web page but the same API. Needs curl.
#   jaeger.sh COMMAND...        what runs the demo; it gets `--otlp-endpoint URL`
set -eu

otlp=${JAEGER_OTLP:-http://127.0.0.1:4317}
ui=${JAEGER:-http://127.0.0.1:16686}
image=docker.io/jaegertracing/jaeger
page=1 own='' started=''

stop() {
	case $own in
	podman) podman stop -t 1 "$started" >/dev/null ;;
	process) kill "$started" && wait "$started" 2>/dev/null || true ;;
	esac
	own=''
}
trap stop EXIT
trap 'exit 130' INT TERM

if [ "${JAEGER-}" = "" ]; then
	if curl -sf -o /dev/null "$ui/api/services"; then
		echo "$ui answers already: name it with JAEGER=$ui to use it" >&2
		exit 1
	fi
	if command -v podman >/dev/null && podman image exists "$image"; then
		started=$(podman run -d --rm -p 127.0.0.1:16686:16686 -p 127.0.0.1:4317:4317 "$image")
		own=podman
	else
		binary=$(.ci/jaeger)
		config=$(mktemp)
		cat >"$config" <<'YAML'
extensions:
  jaeger_storage: {backends: {memory: {memory: {max_traces: 1000}}}}
  jaeger_query: {storage: {traces: memory}, http: {endpoint: 127.0.0.1:16686}, grpc: {endpoint: 127.0.0.1:16685}}
receivers:
  otlp: {protocols: {grpc: {endpoint: 127.0.0.1:4317}}}
exporters:
  jaeger_storage_exporter: {trace_storage: memory}
service:
  extensions: [jaeger_storage, jaeger_query]
  telemetry: {metrics: {level: none}, logs: {level: error}}
  pipelines: {traces: {receivers: [otlp], exporters: [jaeger_storage_exporter]}}
YAML
		"$binary" --config "$config" &
		started=$! own=process page=''
	fi
fi

tries=0
until curl -sf -o /dev/null "$ui/api/services"; do
	tries=$((tries + 1))
	if [ "$tries" -gt 100 ]; then
		echo "no Jaeger answers at $ui" >&2
		exit 1
	fi
	sleep 0.2
done

"$@" --otlp-endpoint "$otlp"

# trace EVENT: the ids of the traces whose root is such a span.
traces() {
	curl -sf -G "$ui/api/traces" -d service=scripted-agent -d lookback=1h -d limit=100 \
		--data-urlencode "tags={\"sheetbend.event\":\"$1\"}" | grep -o '"traceID":"[0-9a-f]*","spans"' | cut -d'"' -f4 | sort -u
}

tries=0
until story=$(traces session) && [ "$story" != "" ]; do
	tries=$((tries + 1))
	if [ "$tries" -gt 50 ]; then
		echo "the session did not arrive at $ui" >&2
		exit 1
	fi
	sleep 0.2
done
if [ "$page" = "" ]; then
	echo "This Jaeger was built without its web page, so these are links to its API. Of the session, and of its calls:"
	for id in $story $(traces execute_tool); do echo "  $ui/api/traces/$id"; done
else
	echo "Open the session, then what each call did:"
	for id in $story $(traces execute_tool); do echo "  $ui/trace/$id"; done
fi
if [ "$own" != "" ] && [ -t 0 ]; then
	echo "Jaeger runs until you press Ctrl-C."
	while :; do sleep 3600; done
fi
