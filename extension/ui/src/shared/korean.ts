/*
 * The Korean table: English sentence to Korean sentence.
 *
 * The words are those of the server's sentences (aliquot_lab/wording/ko.json): 블록,
 * 지분, 슬라이스, 임대.
 */

export const KOREAN: Readonly<Record<string, string>> = {
  'No GPU': 'GPU 없음',
  'GPU –': 'GPU –',
  'GPU {memory} · {busy}': 'GPU {memory} · {busy}',
  '{count} GPUs {memory} · {busy}': 'GPU {count}개 {memory} · {busy}',
  '{figure} (card)': '{figure} (카드)',
  '{figure} (whole card)': '{figure} (카드 전체)',
  simulated: '시뮬레이션',
  Simulated: '시뮬레이션',
  'near the cap': '한도에 가까움',
  '{seconds} s ago': '{seconds}초 전',
  '{minutes} min ago': '{minutes}분 전',
  '{hours} h ago': '{hours}시간 전',
  'This server has no GPU. To get one, stop it and choose a GPU size when you start it again.':
    '이 서버에는 GPU가 없습니다. GPU가 필요하면 서버를 중지하고 다시 시작할 때 GPU 크기를 고르세요.',
  'The figures cannot be read right now.': '지금은 측정값을 읽을 수 없습니다.',
  'The connection to the server is lost; it is tried again by itself.':
    '서버와의 연결이 끊어졌습니다. 자동으로 다시 연결합니다.',
  'This server does not answer for GPU figures: aliquot is not installed beside it.':
    '이 서버는 GPU 측정값을 제공하지 않습니다: aliquot이 함께 설치되어 있지 않습니다.',
  'You are not signed in to this server any more. Reload the page.':
    '이 서버에서 로그아웃되었습니다. 페이지를 새로 고치세요.',
  'The page and the server have different versions of aliquot. Reload the page.':
    '페이지와 서버의 aliquot 버전이 다릅니다. 페이지를 새로 고치세요.',
  'Waiting for the first figures…': '첫 측정값을 기다리는 중…',
  Memory: '메모리',
  Busy: '사용률',
  'GPU usage': 'GPU 사용량',
  'GPU: show my usage': 'GPU: 내 사용량 보기',
  Close: '닫기',
  'Show the details': '자세히 보기',
  '{used} of {limit} GiB': '{limit} GiB 중 {used} GiB',
  '{used} GiB used': '{used} GiB 사용',
  'This slice': '이 슬라이스',
  'This share': '이 지분',
  'Whole card': '카드 전체',
  'shared with {count} other processes': '다른 프로세스 {count}개와 공유',
  'Last 5 minutes: mean {mean} %, highest {highest} %':
    '최근 5분: 평균 {mean} %, 최고 {highest} %',
  Verified: '확인됨',
  Mismatch: '불일치',
  'Not verifiable': '확인할 수 없음',
  'Checking…': '확인 중…',
  'Binding receipt': '바인딩 확인서',
  '{seen}, as expected': '{seen}, 예상과 같음',
  'expected {expected}, seen {seen}': '예상 {expected}, 확인 {seen}',
  'Group {group}': '그룹 {group}',
  '{limit} GiB: memory and compute {held}.': '메모리 {limit} GiB와 연산: {held}.',
  'held by MIG (hardware)': 'MIG로 보장(하드웨어)',
  'held by the driver (whole GPUs)': '드라이버로 보장(GPU 전체)',
  'capped by CUDA MPS (soft)': 'CUDA MPS로 제한(소프트)',
  'capped by HAMi (soft)': 'HAMi로 제한(소프트)',
  'counted by KAI, not enforced': 'KAI가 집계만 하고 강제하지 않음',
  'counted by NVIDIA DRA, not enforced':
    'NVIDIA DRA가 집계만 하고 강제하지 않음',
  'used in turns (time-slicing), not enforced': '번갈아 사용(타임 슬라이싱), 강제되지 않음',
  'kept by agreement, not enforced': '합의에 따라 사용, 강제되지 않음',
  'simulated, not enforced': '시뮬레이션, 강제되지 않음',
  'Memory: {limit} GiB, {memory}. Compute: {compute}. By {by}.':
    '메모리: {limit} GiB, {memory}. 연산: {compute}. 수단: {by}.',
  'held by hardware': '하드웨어로 보장',
  'a soft limit': '소프트 제한',
  'not enforced': '강제되지 않음',
  Live: '실시간',
  Stale: '오래된 값',
  'From the kernel: the figures stand still while a cell keeps Python busy.':
    '커널에서 받은 값입니다: 셀이 Python을 점유하는 동안에는 갱신되지 않습니다.',
  'GPU memory is at {percent} % of its limit: {used} of {limit} GiB. Free some, or save your work.':
    'GPU 메모리가 한도의 {percent} %입니다: {limit} GiB 중 {used} GiB. 메모리를 비우거나 작업을 저장하세요.'
};
