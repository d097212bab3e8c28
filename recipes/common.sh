# Sourced by the run.sh of each recipe: its options, its stages, and the commands it calls.
#
# A recipe sets `small_settings` (key=value words that --small hands to asr-train) and, where it has options of its own,
# `own_values` and `own_flags`; then it calls `read_options "$@"`, which sets a variable for each option: data, out, stage,
# small, and, say, leave_one_out for --leave-one-out. `settings` holds the words for asr-train, `trainer` the command itself
# in as many processes as --processes says, in the recipes that name it. What follows on preparing is mostly `usual_stages`.
#
# shellcheck shell=bash disable=SC2034

recipe="$(basename -- "$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)")"
root="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
data='' out='' stage=1 small='' processes=1 trainer=(asr-train) settings=() small_settings=() own_values='' own_flags=''
prepared='' remark=''

refuse() {
    echo "recipes/$recipe/run.sh: $1" >&2
    exit 2
}

read_options() {
    local name typed=() values="--data --out --stage $own_values" flags="--small $own_flags"
    while [ $# -gt 0 ]; do
        case "$1" in
            -h | --help) awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0" && exit 0 ;;
            --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" && continue ;;
            -*)
                name="${1#--}" name="${name//-/_}"
                if [[ " $values " == *" $1 "* ]]; then
                    [ -n "${2:-}" ] || refuse "$1 has no value: write $1 VALUE"
                    printf -v "$name" %s "$2" && shift
                elif [[ " $flags " == *" $1 "* ]]; then
                    printf -v "$name" yes
                else
                    refuse "unknown option '$1': expected one of $values $flags --help, or key=value for asr-train"
                fi
                ;;
            experiment=* | data.dir=* | run_dir=*) refuse "'$1': the recipe sets ${1%%=*}; --data and --out choose the folders" ;;
            ?*=*) typed+=("$1") ;;
            *) refuse "'$1' is neither an option (--help lists them) nor key=value for asr-train" ;;
        esac
        shift
    done
    [[ "$stage" == [1-4] ]] || refuse "--stage takes 1 (prepare), 2 (train), 3 (decode) or 4 (score), got '$stage'"
    [[ "$processes" =~ ^[1-9][0-9]?$ ]] || refuse "--processes takes a number from 1 to 99, got '$processes'"
    [ "$processes" = 1 ] || trainer=(torchrun --standalone --nproc-per-node "$processes" -m asr train)
    out="${out:-$root/runs/$recipe${small:+-small}}"
    settings=(${small:+"${small_settings[@]}"} ${typed[@]+"${typed[@]}"})
    PATH="$PATH:$root/.venv/bin"
    command -v asr-train > /dev/null || refuse "asr-train is not there: install asr first, as README.md says"
}

# stage_wanted N TITLE: whether stage N is to run; says so.
stage_wanted() {
    [ "$stage" -le "$1" ] && echo "== Stage $1: $2"
}

# need_data WHAT: refuse to go on without --data.
need_data() {
    [ -n "$data" ] || refuse "--data DIR is missing: $1 (recipes/$recipe/README.md says where to get it)"
}

# thin N MANIFEST...: keep every Nth line.
thin() {
    local manifest
    for manifest in "${@:2}"; do
        awk -v n="$1" 'NR % n == 1' < "$manifest" > "$manifest.tmp" && mv -- "$manifest.tmp" "$manifest"
    done
}

# usual_stages HERE PART UNIT...: stages 2 to 4. Trains the experiment of the recipe's name on HERE/data, or on $prepared where that is
# set, decodes PART and scores it in each UNIT, into HERE/score, or HERE/score_UNIT where there are several; says $remark
# before where everything lies.
usual_stages() {
    local here="$1" part="$2" unit scores=() manifests="${prepared:-$1/data}"
    if stage_wanted 2 "train in $here/run"; then
        asr-train "experiment=$recipe" "data.dir=$manifests" "run_dir=$here/run" ${settings[@]+"${settings[@]}"}
    fi
    if stage_wanted 3 "decode $part"; then
        asr-decode "model=$here/run" "manifest=$manifests/$part.jsonl" "out=$here/$part.hyp.jsonl" overwrite=true
    fi
    stage_wanted 4 "score $part"
    for unit in "${@:3}"; do
        scores+=("$here/score$([ $# = 3 ] || echo "_$unit")")
        asr-score "ref=$manifests/$part.jsonl" "hyp=$here/$part.hyp.jsonl" "unit=$unit" "out=${scores[${#scores[@]} - 1]}"
    done
    echo
    [ -z "$remark" ] || echo "$remark"
    echo "model: $here/run/model    curves: $here/run/curves.png    transcripts: $here/$part.hyp.jsonl    score: ${scores[*]}"
}
