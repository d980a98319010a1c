// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IFirmwareReplication} from "../../contracts/interfaces/IFirmwareReplication.sol";
import {IWholeBlockOTA} from "./Forge.sol";
import {HalmosCheck} from "./Halmos.sol";

/// @title Properties of FirmwareReplication that every call preserves, proven by Halmos
/// @notice As in CheckBlockOTA: every sender, function and argument, from every storage of both contracts that
/// satisfies the check's assumptions.
contract CheckFirmwareReplication is HalmosCheck {
    /// @dev Masks of an agreement's first slot: broker and expiry, and above them the status.
    uint256 private constant TERMS = (1 << 200) - 1;
    uint256 private constant PROPOSED = uint256(IFirmwareReplication.Status.Proposed);
    uint256 private constant ACCEPTED = uint256(IFirmwareReplication.Status.Accepted);
    uint256 private constant DECLINED = uint256(IFirmwareReplication.Status.Declined);
    uint256 private constant WITHDRAWN = uint256(IFirmwareReplication.Status.Withdrawn);
    uint256 private constant TERMINATED = uint256(IFirmwareReplication.Status.Terminated);

    IWholeBlockOTA private _record;
    address private _replication;

    function setUp() external {
        address record = _deploy(".build/forge/halmos/BlockOTA.sol/BlockOTA.json", SAFE);
        _record = IWholeBlockOTA(record);
        _replication = _deploy(".build/forge/halmos/FirmwareReplication.sol/FirmwareReplication.json", record);
        _fillWithAnything(record);
        _fillWithAnything(_replication);
    }

    function check_R1_termsNeverChange(address sender, uint64 id) external {
        vm.assume(_known(id));
        (bytes32 first, bytes32 product, bytes32 third) = _words(id);
        vm.assume(_callReplication(_replication, sender));
        (bytes32 laterFirst, bytes32 laterProduct, bytes32 laterThird) = _words(id);
        bool sameRelease = _both(product == laterProduct, uint64(uint256(third)) == uint64(uint256(laterThird)));
        assert(_both(sameRelease, uint256(first ^ laterFirst) & TERMS == 0));
    }

    function check_R1_theStatusFollowsTheArrows(address sender, uint64 id) external {
        vm.assume(_known(id));
        uint256 before = _status(id);
        vm.assume(_callReplication(_replication, sender));
        assert(_isArrow(before, _status(id)));
    }

    function check_R2_onlyTheVendorDecides(address sender, uint64 id) external {
        vm.assume(_both(_known(id), sender != _record.owner()));
        uint256 before = _status(id);
        vm.assume(_callReplication(_replication, sender));
        assert(_either(before == _status(id), _status(id) == WITHDRAWN));
    }

    function check_R2_onlyTheBrokerAnnouncesOrWithdraws(address sender, uint64 id) external {
        (bytes32 first, , ) = _words(id);
        vm.assume(_both(_known(id), sender != address(uint160(uint256(first)))));
        (uint256 before, bytes32 uri) = (_status(id), _entryWord(_replication, id, 3));
        vm.assume(_callReplication(_replication, sender));
        assert(_entryWord(_replication, id, 3) == uri);
        assert(_either(before == _status(id), _status(id) != WITHDRAWN));
    }

    function check_R3_anOpenAgreementIsItsBrokersNewest(address sender, uint64 id) external {
        _assumeSound(id);
        vm.assume(_callReplication(_replication, sender));
        assert(_either(!_isOpen(id), _newestLike(id) == id));
    }

    function check_R3_theNewestOfABrokerIsItsOwn(
        address sender,
        bytes32 product,
        uint64 version,
        address broker
    ) external {
        vm.assume(IFirmwareReplication(_replication).agreementCount() < type(uint64).max);
        vm.assume(_isOwn(product, version, broker));
        vm.assume(_callReplication(_replication, sender));
        assert(_isOwn(product, version, broker));
    }

    /// @notice The assumptions of R3 and R6 are true after deployment, for any storage of BlockOTA.
    function check_R3_everythingIsSoundAtFirst(bytes32 product, uint64 version, address broker, uint64 id) external {
        string memory path = ".build/forge/halmos/FirmwareReplication.sol/FirmwareReplication.json";
        _replication = _deploy(path, address(_record));
        assert(IFirmwareReplication(_replication).agreementCount() == 0);
        assert(_newest(_replication, product, version, broker) == 0);
        assert(_entryWord(_replication, id, 0) == 0);
    }

    function check_R6_idsOnlyGrowByOne(address sender) external {
        uint64 before = IFirmwareReplication(_replication).agreementCount();
        vm.assume(_both(before < type(uint64).max, _entryWord(_replication, 0, 0) == 0));
        vm.assume(_callReplication(_replication, sender));
        uint64 later = IFirmwareReplication(_replication).agreementCount();
        assert(_either(later == before, later == before + 1));
        assert(_entryWord(_replication, 0, 0) == 0);
    }

    function check_R9_aDecisionNamesTheRecordedAgreement(
        address sender,
        uint64 id,
        address broker,
        bytes32 product,
        uint64 version,
        uint40 expiresAt,
        uint256 choice
    ) external {
        (bytes32 first, bytes32 itsProduct, bytes32 third) = _words(id);
        bytes4 selector = IFirmwareReplication.accept.selector;
        if (choice == 1) selector = IFirmwareReplication.decline.selector;
        if (choice == 2) selector = IFirmwareReplication.terminate.selector;
        bytes memory data = abi.encodeWithSelector(selector, id, broker, product, version, expiresAt);
        if (choice == 3) {
            IFirmwareReplication.Terms[] memory terms = new IFirmwareReplication.Terms[](1);
            terms[0] = IFirmwareReplication.Terms(id, broker, product, version, expiresAt);
            data = abi.encodeCall(IFirmwareReplication.acceptAll, (terms));
        }
        vm.prank(sender);
        (bool done, ) = _replication.call(data);
        vm.assume(done);
        bool sameRelease = _both(itsProduct == product, uint64(uint256(third)) == version);
        uint256 recorded = uint256(first) & TERMS;
        assert(_both(sameRelease, recorded == uint256(uint160(broker)) | (uint256(expiresAt) << 160)));
    }

    function check_R9_theBrokerNamesTheRecordedRelease(
        address sender,
        uint64 id,
        bytes32 product,
        uint64 version
    ) external {
        (, bytes32 itsProduct, bytes32 third) = _words(id);
        vm.prank(sender);
        (bool done, ) = _replication.call(abi.encodeCall(IFirmwareReplication.withdraw, (id, product, version)));
        vm.assume(done);
        assert(_both(itsProduct == product, uint64(uint256(third)) == version));
    }

    /// @dev Must fail: proves that the assumption of R1 and R2 allows a vendor other than the deployer to accept.
    /// @custom:halmos --early-exit
    function check_reachable_anotherVendorAccepts(address sender, uint64 id) external {
        vm.assume(_known(id));
        uint256 before = _status(id);
        vm.assume(_callReplication(_replication, sender));
        bool accepted = _both(before == PROPOSED, _status(id) == ACCEPTED);
        assert(!_both(accepted, _record.owner() != SAFE));
    }

    /// @dev Must fail: proves that the assumption of R3 allows an accepted agreement to be replaced by a new one.
    /// @custom:halmos --early-exit
    function check_reachable_anExpiredAgreementGivesWay(address sender, uint64 id) external {
        _assumeSound(id);
        uint256 before = _status(id);
        vm.assume(_callReplication(_replication, sender));
        bool withdrawn = _both(before == ACCEPTED, _status(id) == WITHDRAWN);
        assert(!_both(withdrawn, _newestLike(id) != id));
    }

    /// @dev R3 for one id: ids up to the count were proposed, and the next one is unused.
    function _assumeSound(uint64 id) private view {
        uint64 count = IFirmwareReplication(_replication).agreementCount();
        vm.assume(_both(id != 0, _both(count < type(uint64).max, id <= count + 1)));
        vm.assume(_either(_known(id), _both(id > count, _entryWord(_replication, id, 0) == 0)));
        vm.assume(_either(!_isOpen(id), _newestLike(id) == id));
    }

    /// @dev Returns whether the id is at most the count and has a valid status.
    function _known(uint64 id) private view returns (bool) {
        uint256 status = _status(id);
        bool counted = id <= IFirmwareReplication(_replication).agreementCount();
        return _both(counted, _both(status != 0, status <= TERMINATED));
    }

    function _isOpen(uint64 id) private view returns (bool) {
        uint256 status = _status(id);
        return _either(status == PROPOSED, status == ACCEPTED);
    }

    /// @dev Returns the newest agreement of the same broker on the same release.
    function _newestLike(uint64 id) private view returns (uint64) {
        (bytes32 first, bytes32 product, bytes32 third) = _words(id);
        return _newest(_replication, product, uint64(uint256(third)), address(uint160(uint256(first))));
    }

    /// @dev Returns whether the newest agreement of a broker on a release, if any, belongs to that broker and release.
    /// The function branches on purpose: the solvers decide several short formulas faster than a long formula.
    function _isOwn(bytes32 product, uint64 version, address broker) private view returns (bool) {
        uint64 id = _newest(_replication, product, version, broker);
        if (id == 0) return true;
        (bytes32 first, bytes32 itsProduct, bytes32 third) = _words(id);
        bool sameRelease = itsProduct == product && uint64(uint256(third)) == version;
        return sameRelease && address(uint160(uint256(first))) == broker && _known(id);
    }

    function _words(uint64 id) private view returns (bytes32 first, bytes32 product, bytes32 third) {
        first = _entryWord(_replication, id, 0);
        product = _entryWord(_replication, id, 1);
        third = _entryWord(_replication, id, 2);
    }

    function _status(uint64 id) private view returns (uint256) {
        return uint8(uint256(_entryWord(_replication, id, 0)) >> 200);
    }

    /// @dev Returns whether the status change is allowed; an unchanged status is allowed.
    function _isArrow(uint256 one, uint256 two) private pure returns (bool) {
        bool decided = _either(two == ACCEPTED, _either(two == DECLINED, two == WITHDRAWN));
        bool ended = _either(two == WITHDRAWN, two == TERMINATED);
        bool moved = _either(_both(one == PROPOSED, decided), _both(one == ACCEPTED, ended));
        return _either(one == two, moved);
    }
}
