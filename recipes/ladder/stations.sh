# Sourced by run.sh: the stations, the corpora, and the two tables.
#
# shellcheck shell=bash disable=SC2034,SC2154

ladder=(mlp rnn-forward rnn lstm1997 lstm-forward lstm lstm-peepholes gru)
depth=(depth1-forward depth1 depth2-forward depth2 lstm-forward lstm depth5-forward depth5)

# network NAME: the words for asr-train that make this station; widths give about a million weights each.
network() {
    case "$1" in
        mlp) words="cell=mlp width=303" ;;
        rnn-forward) words="cell=rnn width=419 bidirectional=false" ;;
        rnn) words="cell=rnn width=247" ;;
        lstm1997) words="forget_gate=false width=137" ;;
        lstm-forward) words="width=200 bidirectional=false" ;;
        lstm) words="width=117" ;;
        lstm-peepholes) words="peepholes=true width=117" ;;
        gru) words="cell=gru width=137" ;;
        depth1-forward) words="layers=1 width=390 bidirectional=false" ;;
        depth1) words="layers=1 width=250" ;;
        depth2-forward) words="layers=2 width=250 bidirectional=false" ;;
        depth2) words="layers=2 width=148" ;;
        depth5-forward) words="layers=5 width=153 bidirectional=false" ;;
        depth5) words="layers=5 width=89" ;;
        *) return 1 ;;
    esac
    # shellcheck disable=SC2086
    printf 'encoder.%s\n' $words
}

choose_corpus() {
    case "$corpus" in
        speechocean762) part=dev unit=phone corpus_settings=(tokens=phones) thinned=20 ;;
        fsdd) part=test unit=word corpus_settings=(tokens=characters features.sample_rate=8000) thinned=11 ;;
        digits) part=test unit=word corpus_settings=(tokens=characters) ;;
        *) refuse "--corpus takes speechocean762, fsdd or digits, got '$corpus'" ;;
    esac
    for name in seeds epochs; do
        [[ "${!name}" =~ ^[1-9][0-9]{0,3}$ ]] || refuse "--$name takes a whole number from 1 on, got '${!name}'"
    done
    here="$out/$corpus" prepared="$out/$corpus/data"
}

# The stations to train, each once: those of both tables, or those asked for.
choose_stations() {
    local name names
    chosen=()
    names="$(printf '%s\n' "${ladder[@]}" "${depth[@]}" | awk '!seen[$0]++' | paste -s -d ' ' -)"
    [ -z "$small" ] || stations="${stations:-mlp lstm-peepholes depth1-forward depth1}"
    for name in ${stations:-"${ladder[@]}" "${depth[@]}"}; do
        network "$name" > /dev/null || refuse "--stations: '$name' is no station; there are $names"
        [[ " ${chosen[*]-} " == *" $name "* ]] || chosen+=("$name")
    done
}

prepare() {
    if [ "$corpus" = digits ]; then
        asr-data prepare digits --out "$prepared" ${small:+--train 60 --valid 10 --test 10}
        return
    fi
    asr-data prepare "$corpus" --root "$data" --out "$prepared"
    [ -z "$small" ] || thin "$thinned" "$prepared"/{train,valid,"$part"}.jsonl
}

# compare NAME TITLE STATION...: the table and the picture of those stations that are trained.
compare() {
    local name="$1" title="$2" station seed runs=()
    for station in "${@:3}"; do
        for seed in $(seq "$seeds"); do
            [ ! -e "$here/$station/seed$seed/score/score.json" ] || runs+=("$here/$station/seed$seed")
        done
    done
    [ "${#runs[@]}" -gt 0 ] || return 0
    echo "== Table: $title"
    asr-inspect compare "out=$here/$name" "title=$title" "${runs[@]}"
}
