{{- /* The sensor's configuration: nothing is recorded on a node without a volume of a given size for that. */ -}}
{{- define "sheetbend.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- if not (hasKey $config "recorder") -}}
{{- with .Values.recorder.size -}}
{{- $mib := trimSuffix "Mi" (trimSuffix "Gi" .) | int -}}
{{- if hasSuffix "Gi" . -}}{{- $mib = mul $mib 1024 -}}{{- end -}}
{{- /* A quarter is for what is written anew, and for whole blocks of the file system. */ -}}
{{- $_ := set $config "recorder" (dict "path" "/var/lib/sheetbend-recorder/recordings" "max_bytes" (printf "%dMiB" (div (mul $mib 3) 4))) -}}
{{- else -}}
{{- $_ := set $config "recorder" (dict "path" "none") -}}
{{- end -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}
